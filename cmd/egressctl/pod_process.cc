#include "cmd/egressctl/pod_process.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <map>
#include <thread>
#include <vector>

#include "agent/base/fd.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace egress::ctl {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMaxFile = 64 * 1024;

std::string NamespaceOf(const std::string& process, const char* kind) {
  std::error_code error;
  const fs::path target = fs::read_symlink("/proc/" + process + "/ns/" + kind, error);
  return error ? std::string() : target.string();
}

// The cookie of the network namespace that the calling thread enters for good.
std::optional<std::uint64_t> EnterAndReadCookie(const std::string& path) {
  const Fd netns(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!netns || ::setns(netns.get(), CLONE_NEWNET) != 0) return std::nullopt;
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (!socket || ::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) != 0) return std::nullopt;
  return cookie;
}

// Processes by network namespace ("net:[4026531840]").
std::map<std::string, std::vector<pid_t>> ProcessesByNetns() {
  std::map<std::string, std::vector<pid_t>> result;
  std::error_code error;
  for (fs::directory_iterator entry("/proc", error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    pid_t pid = 0;
    const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (failed != std::errc() || end != name.data() + name.size()) continue;
    const std::string netns = NamespaceOf(name, "net");
    if (!netns.empty()) result[netns].push_back(pid);
  }
  return result;
}

}  // namespace

std::optional<pid_t> FindPodProcess(std::uint64_t cookie) {
  const auto processes = ProcessesByNetns();
  std::vector<pid_t> found;
  // A network namespace belongs to a thread: one of its own goes through them.
  std::thread([&] {
    for (const auto& [netns, pids] : processes) {
      if (EnterAndReadCookie("/proc/" + std::to_string(pids.front()) + "/ns/net") != cookie) continue;
      found = pids;
      return;
    }
  }).join();
  if (found.empty()) return std::nullopt;
  const std::string ours = NamespaceOf("self", "mnt");
  const auto container = std::find_if(found.begin(), found.end(), [&](pid_t pid) {
    const std::string mounts = NamespaceOf(std::to_string(pid), "mnt");
    return !mounts.empty() && mounts != ours;
  });
  return container != found.end() ? *container : found.front();
}

std::optional<std::string> ReadFileOf(pid_t pid, const std::string& path) {
  const Fd root(::open(("/proc/" + std::to_string(pid) + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return std::nullopt;
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const Fd file(static_cast<int>(::syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how)));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  std::string text(kMaxFile, '\0');
  const ssize_t size = ::read(file.get(), text.data(), text.size());
  if (size < 0) return std::nullopt;
  text.resize(static_cast<std::size_t>(size));
  return text;
}

}  // namespace egress::ctl
