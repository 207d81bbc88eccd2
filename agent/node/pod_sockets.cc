#include "agent/node/pod_sockets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "agent/node/netns.h"

namespace egress::node {
namespace {

constexpr int kBacklog = 4096;  // the kernel bounds it by the pod's net.core.somaxconn

struct PortRange {
  int first = 32768;
  int last = 60999;  // the kernel's default
};

// Of the calling thread's namespace: /proc/sys/net shows the one of whoever opens it.
PortRange EphemeralPorts() {
  PortRange range;
  std::ifstream file("/proc/sys/net/ipv4/ip_local_port_range");
  PortRange read;
  if (file >> read.first >> read.last) range = read;
  return range;
}

// All ports of the range once: those outside the ephemeral range first, each part from a random port on. Random, so
// that a pod cannot know the port before it is taken.
std::vector<std::uint16_t> Candidates(std::uint16_t first, std::uint16_t last) {
  std::vector<std::uint16_t> ports(static_cast<std::size_t>(last - first) + 1);
  std::iota(ports.begin(), ports.end(), first);
  const PortRange ephemeral = EphemeralPorts();
  const auto middle = std::stable_partition(
      ports.begin(), ports.end(), [&](std::uint16_t port) { return port < ephemeral.first || port > ephemeral.last; });
  std::random_device random;
  const auto rotate = [&random](auto begin, auto end) {
    if (begin != end) std::rotate(begin, begin + random() % (end - begin), end);
  };
  rotate(ports.begin(), middle);
  rotate(middle, ports.end());
  return ports;
}

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

SocketAddress MakeSocketAddress(const Address& address, std::uint16_t port) {
  SocketAddress result;
  if (address.IsV4()) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, address.bytes.data() + 12, 4);
    std::memcpy(&result.storage, &v4, sizeof v4);
    result.size = sizeof v4;
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&v6.sin6_addr, address.bytes.data(), 16);
    std::memcpy(&result.storage, &v6, sizeof v6);
    result.size = sizeof v6;
  }
  return result;
}

// 0, or the errno of bind() or listen().
int BindAndListen(int socket, const Address& address, std::uint16_t port) {
  const SocketAddress to = MakeSocketAddress(address, port);
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&to.storage), to.size) != 0) return errno;
  return ::listen(socket, kBacklog) != 0 ? errno : 0;
}

Result<Fd> NewSocket(int family) {
  Fd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!socket) return ErrnoError("make a TCP socket");
  const int one = 1;
  if (family == AF_INET6 && ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) != 0) {
    return ErrnoError("set IPV6_V6ONLY");
  }
  return socket;
}

}  // namespace

Result<Listener> ListenIn(const Fd& netns, const Address& address, std::uint16_t first_port, std::uint16_t last_port) {
  if (first_port == 0 || first_port > last_port) return Error{"no ports to listen on"};
  const auto scope = NetnsScope::Enter(netns);
  if (!scope) return scope.error();
  for (const std::uint16_t port : Candidates(first_port, last_port)) {
    // A new socket for each attempt: one whose listen() failed stays bound.
    auto socket = NewSocket(address.IsV4() ? AF_INET : AF_INET6);
    if (!socket) return std::move(socket).error();
    const int error = BindAndListen(socket->get(), address, port);
    if (error == 0) return Listener{std::move(*socket), port};
    if (error != EADDRINUSE) return ErrnoError("listen on " + address.ToString() + " in the pod", error);
  }
  return Error{"listen on " + address.ToString() + " in the pod: every port of " + std::to_string(first_port) + ".." +
               std::to_string(last_port) + " is taken"};
}

Result<Fd> UpstreamSocketIn(const Fd& netns, int family) {
  return SocketIn(netns, family, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);
}

}  // namespace egress::node
