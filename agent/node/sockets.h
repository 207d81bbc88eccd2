// Sockets of a network namespace as inet_diag shows them, and closing them from outside.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/result.h"
#include "agent/node/netlink.h"

namespace egress::node {

// The two ends of a TCP connection, from the side of the socket in question. Ports in host order.
struct Tuple {
  Address local;
  std::uint16_t local_port = 0;
  Address remote;
  std::uint16_t remote_port = 0;
  auto operator<=>(const Tuple&) const = default;
};

struct TcpSocket {
  Tuple tuple;
  int family = 0;            // AF_INET or AF_INET6 of the socket; addresses are mapped where it is dual-stack
  int state = 0;             // TCP_ESTABLISHED, TCP_LISTEN, ... (netinet/tcp.h)
  int bound_ifindex = 0;     // SO_BINDTODEVICE
  std::uint64_t cookie = 0;  // as bpf_get_socket_cookie() gives it; 0 for TIME_WAIT and half-open ones
};

// `diag` is a socket of NETLINK_SOCK_DIAG; its namespace is the one that is looked at.
Result<std::vector<TcpSocket>> TcpSockets(NetlinkSocket& diag);

// One socket: the cookie makes sure that it is this one and not another that got the same tuple later.
struct SocketId {
  Tuple tuple;
  std::uint64_t cookie = 0;
};

// Ends TCP connections: their programs get ECONNABORTED, the other ends a RST. A socket that is gone already is no
// error. All are tried, and the first error is returned. Needs CAP_NET_ADMIN, and a kernel with
// CONFIG_INET_DIAG_DESTROY (an error tells). Many at once are cheaper than one by one.
Result<void> DestroySockets(NetlinkSocket& diag, std::span<const SocketId> sockets);
Result<void> DestroySocket(NetlinkSocket& diag, const Tuple& tuple, std::uint64_t socket_cookie);

}  // namespace egress::node
