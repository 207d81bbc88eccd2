// Network namespaces: opening, identifying, and making sockets inside them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "agent/base/fd.h"
#include "agent/base/result.h"

namespace egress::node {

// Opens a network namespace by its path ("/run/netns/x", "/proc/PID/ns/net"). Whatever else stands at the path, also
// the empty file that a mount point is before and after the namespace is bound there, is an error that says so.
Result<Fd> OpenNetns(const std::string& path);

// The namespace of the calling thread.
Result<Fd> CurrentNetns();

// The number that bpf_get_netns_cookie() gives for sockets of this namespace (SO_NETNS_COOKIE, Linux 5.14).
// Never used again while the machine is up.
Result<std::uint64_t> NetnsCookie(const Fd& netns);

// The namespaces that are bound in `folder`, by their cookies.
std::map<std::uint64_t, std::string> NetnsPaths(const std::string& folder = "/run/netns");

// Does `path` still lead to `netns`? False also when the path is gone or leads to no namespace.
bool SameNetns(const std::string& path, const Fd& netns);

// The calling thread is in another namespace while this lives. Needs CAP_SYS_ADMIN (setns(2)). A thread that cannot
// come back would go on to work in a pod's namespace: the process aborts.
class NetnsScope {
 public:
  static Result<NetnsScope> Enter(const Fd& netns);
  NetnsScope(NetnsScope&&) noexcept = default;
  NetnsScope& operator=(NetnsScope&&) = delete;
  ~NetnsScope();

 private:
  explicit NetnsScope(Fd back) : back_(std::move(back)) {}
  Fd back_;
};

// socket(2) in `netns`; the socket stays there wherever it is used, and keeps the namespace alive. SOCK_CLOEXEC is
// always set.
Result<Fd> SocketIn(const Fd& netns, int family, int type, int protocol);

}  // namespace egress::node
