#include "cmd/egressd/control_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdio>
#include <cstring>
#include <utility>

namespace egress::report {

namespace {

// A whole node's pods may start at once, and a request of egress-cni that does not even reach the queue leaves its pod held.
constexpr int kBacklog = 4096;

// A path in the file system as the address of a socket. sun_path holds 107 characters only; a longer path is named
// through a descriptor of its folder, which this keeps open.
struct SocketAddress {
  sockaddr_un address{};
  Fd folder;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

Result<SocketAddress> MakeAddress(const std::string& path) {
  SocketAddress result;
  result.address.sun_family = AF_UNIX;
  std::string name = path;
  if (name.size() >= sizeof(result.address.sun_path)) {
    const auto slash = path.rfind('/');
    result.folder.Reset(::open(path.substr(0, slash).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!result.folder) return ErrnoError("open " + path.substr(0, slash));
    name = "/proc/self/fd/" + std::to_string(result.folder.get()) + path.substr(slash);
  }
  if (name.size() >= sizeof(result.address.sun_path)) return Error{path + ": the file name is too long for a socket"};
  std::memcpy(result.address.sun_path, name.c_str(), name.size() + 1);
  return result;
}

}  // namespace

Fd ConnectControlSocket(const std::string& path, ConnectFailure& failure) {
  auto address = MakeAddress(path);
  if (!address) {
    failure = {NoAgent::kNotRunning, std::move(address).error()};
    return {};
  }
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket || ::connect(socket.get(), address->get(), sizeof(sockaddr_un)) != 0) {
    const bool nobody = errno == ENOENT || errno == ECONNREFUSED;
    failure = {nobody ? NoAgent::kNotRunning : NoAgent::kOther, ErrnoError("connect to " + path)};
    return {};
  }
  return socket;
}

Result<ControlSocket> ControlSocket::Listen(const std::string& path) {
  ConnectFailure failure;
  if (ConnectControlSocket(path, failure)) {
    return Error{"another egressd answers on " + path + ": stop it, or give this one another --run-dir"};
  }
  const std::string fresh = path + "." + std::to_string(::getpid());
  auto address = MakeAddress(fresh);
  if (!address) return std::move(address).error();
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return ErrnoError("make the control socket");
  ::unlink(fresh.c_str());  // of an agent with the same pid that was killed here
  if (::bind(socket.get(), address->get(), sizeof(sockaddr_un)) != 0) return ErrnoError("make the socket " + fresh);
  struct stat made {};
  // Nobody can connect before listen(), so the mode is in force when the first client may come.
  if (::chmod(fresh.c_str(), 0600) != 0 || ::listen(socket.get(), kBacklog) != 0 || ::stat(fresh.c_str(), &made) != 0 ||
      ::rename(fresh.c_str(), path.c_str()) != 0) {
    Error error = ErrnoError("set up the socket " + path);
    ::unlink(fresh.c_str());
    return error;
  }
  return ControlSocket(std::move(socket), path, made.st_dev, made.st_ino);
}

ControlSocket::~ControlSocket() {
  if (!socket_) return;  // moved from
  struct stat there {};
  if (::stat(path_.c_str(), &there) == 0 && there.st_dev == device_ && there.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
}

}  // namespace egress::report
