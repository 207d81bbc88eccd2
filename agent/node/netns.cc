#include "agent/node/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71  // linux/socket.h of 5.14; the libc of Debian 12 has it, older ones do not
#endif

namespace egress::node {

Result<Fd> OpenNetns(const std::string& path) {
  // O_NONBLOCK: a FIFO at the path must not hold up the agent.
  Fd netns(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!netns) return ErrnoError("open network namespace " + path);
  struct statfs file_system {};
  if (::fstatfs(netns.get(), &file_system) != 0) return ErrnoError("statfs " + path);
  if (file_system.f_type != NSFS_MAGIC) {
    return Error{path + ": not a network namespace (a plain file: nothing is bound there yet, or no longer)"};
  }
  const int type = ::ioctl(netns.get(), NS_GET_NSTYPE);
  if (type < 0) return ErrnoError("ask for the kind of namespace of " + path);
  if (type != CLONE_NEWNET) return Error{path + ": a namespace, but not a network namespace"};
  return netns;
}

Result<Fd> CurrentNetns() { return OpenNetns("/proc/thread-self/ns/net"); }

Result<std::uint64_t> NetnsCookie(const Fd& netns) {
  const auto socket = SocketIn(netns, AF_UNIX, SOCK_DGRAM, 0);
  if (!socket) return socket.error();
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (::getsockopt(socket->get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0) {
    return ErrnoError("read the cookie of the network namespace (SO_NETNS_COOKIE, Linux 5.14 or newer)");
  }
  return cookie;
}

std::map<std::uint64_t, std::string> NetnsPaths(const std::string& folder) {
  std::map<std::uint64_t, std::string> paths;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const auto netns = OpenNetns(entry->path());
    if (!netns) continue;
    if (const auto cookie = NetnsCookie(*netns)) paths[*cookie] = entry->path();
  }
  return paths;
}

bool SameNetns(const std::string& path, const Fd& netns) {
  struct stat at_path {};
  struct stat of_fd {};
  // The device of nsfs is one of its own, so equal numbers mean that the path leads to nsfs too.
  return ::stat(path.c_str(), &at_path) == 0 && ::fstat(netns.get(), &of_fd) == 0 && at_path.st_dev == of_fd.st_dev &&
         at_path.st_ino == of_fd.st_ino;
}

Result<NetnsScope> NetnsScope::Enter(const Fd& netns) {
  auto back = CurrentNetns();
  if (!back) return std::move(back).error();
  if (::setns(netns.get(), CLONE_NEWNET) != 0) return ErrnoError("enter the network namespace (needs CAP_SYS_ADMIN)");
  return NetnsScope(std::move(*back));
}

NetnsScope::~NetnsScope() {
  if (!back_) return;  // moved from
  if (::setns(back_.get(), CLONE_NEWNET) != 0) {
    std::perror("cannot return from a pod's network namespace");
    std::abort();
  }
}

Result<Fd> SocketIn(const Fd& netns, int family, int type, int protocol) {
  const auto scope = NetnsScope::Enter(netns);
  if (!scope) return scope.error();
  Fd socket(::socket(family, type | SOCK_CLOEXEC, protocol));
  if (!socket) return ErrnoError("make a socket in the network namespace");
  return socket;
}

}  // namespace egress::node
