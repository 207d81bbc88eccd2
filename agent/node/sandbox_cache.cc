#include "agent/node/sandbox_cache.h"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "agent/base/file.h"

namespace egress::node {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kEvents =
    IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr std::uint32_t kAboveEvents = IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
// The runtime puts the pod's annotations in there too (256 KiB at most), and a byte may take six to write: whoever writes
// the pod must not be able to make it unreadable.
constexpr std::int64_t kMaxBytes = 16 << 20;

}  // namespace

Result<SandboxCache> SandboxCache::Open(std::string folder) {
  SandboxCache cache(std::move(folder));
  cache.inotify_.Reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!cache.inotify_) return ErrnoError("inotify_init1 (see fs.inotify.max_user_instances)");
  cache.Watch();
  return cache;
}

// The folder, or the nearest one above it that is there.
void SandboxCache::Watch() {
  for (;;) {
    fs::path at = folder_;
    std::error_code error;
    while (at.has_relative_path() && !fs::is_directory(at, error)) at = at.parent_path();
    const bool in_place = at == folder_;
    const int watch = ::inotify_add_watch(inotify_.get(), at.c_str(), in_place ? kEvents : kAboveEvents);
    if (watch_ >= 0 && watch_ != watch) ::inotify_rm_watch(inotify_.get(), watch_);
    watch_ = watch;
    in_place_ = in_place && watch >= 0;
    // What was made below before the watch stood has not been announced.
    const fs::path next = in_place ? fs::path() : at / *fs::path(folder_).lexically_relative(at).begin();
    if (watch < 0 || in_place || !fs::is_directory(next, error)) return;
  }
}

std::set<std::pair<std::string, std::string>> SandboxCache::Poll() {
  std::set<std::pair<std::string, std::string>> told;
  alignas(inotify_event) std::array<char, 16 << 10> buffer;
  std::set<std::string> names;
  bool moved = !in_place_;
  for (ssize_t size; (size = ::read(inotify_.get(), buffer.data(), buffer.size())) > 0;) {
    for (ssize_t at = 0; at < size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      if ((event->mask & IN_Q_OVERFLOW) != 0) read_all_ = true;
      if (event->wd == watch_ && (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) != 0) moved = true;
      if (event->len > 0 && in_place_) names.insert(event->name);
    }
  }
  if (moved) {
    Watch();
    read_all_ = true;
  }
  if (std::exchange(read_all_, false)) {
    ReadAll(told);
  } else {
    for (const std::string& name : names) Read(name, told);
  }
  return told;
}

void SandboxCache::ReadAll(std::set<std::pair<std::string, std::string>>& told) {
  std::set<std::string> names;
  for (const auto& [name, entry] : entries_) names.insert(name);
  std::error_code error;
  if (in_place_) {
    for (fs::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error)) {
      names.insert(at->path().filename().string());
    }
  }
  for (const std::string& name : names) Read(name, told);
}

void SandboxCache::Read(const std::string& name, std::set<std::pair<std::string, std::string>>& told) {
  const auto pod = [](const Sandbox& sandbox) { return std::pair(sandbox.pod_namespace, sandbox.pod_name); };
  if (const auto known = entries_.find(name); known != entries_.end()) {
    told.insert(pod(known->second.sandbox));
    entries_.erase(known);
  }
  const std::string path = folder_ + "/" + name;
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > kMaxBytes) return;
  const auto text = ReadFile(path);
  if (!text) return;
  auto sandbox = ParseCachedSandbox(*text);
  if (!sandbox) return;
  told.insert(pod(*sandbox));
  entries_[name] = {*std::move(sandbox), std::int64_t{info.st_mtim.tv_sec} * 1000000000 + info.st_mtim.tv_nsec};
}

}  // namespace egress::node
