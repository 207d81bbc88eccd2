#include "agent/node/sockets.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace egress::node {
namespace {

constexpr std::uint32_t kAllStates = ~0U;

void WriteAddress(const Address& address, __be32 (&to)[4]) {
  if (address.IsV4()) {
    std::memcpy(to, address.bytes.data() + 12, 4);
  } else {
    std::memcpy(to, address.bytes.data(), 16);
  }
}

Address ReadAddress(int family, const __be32 (&from)[4]) {
  Address address;
  if (family == AF_INET) {
    address.bytes[10] = address.bytes[11] = 0xff;
    std::memcpy(address.bytes.data() + 12, from, 4);
  } else {
    std::memcpy(address.bytes.data(), from, 16);
  }
  return address;
}

TcpSocket ReadSocket(const nlmsghdr* message) {
  const auto* diag = static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(message));
  const inet_diag_sockid& id = diag->id;
  TcpSocket socket;
  socket.tuple = {ReadAddress(diag->idiag_family, id.idiag_src), ntohs(id.idiag_sport),
                  ReadAddress(diag->idiag_family, id.idiag_dst), ntohs(id.idiag_dport)};
  socket.family = diag->idiag_family;
  socket.state = diag->idiag_state;
  socket.bound_ifindex = static_cast<int>(id.idiag_if);
  // "No cookie" is all ones.
  socket.cookie = (std::uint64_t{id.idiag_cookie[1]} << 32) | id.idiag_cookie[0];
  if (socket.cookie == ~std::uint64_t{0}) socket.cookie = 0;
  return socket;
}

Result<void> Dump(NetlinkSocket& diag, int family, std::vector<TcpSocket>& sockets) {
  RequestBuffer buffer;
  nlmsghdr* request = buffer.Header(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
  auto* body = static_cast<inet_diag_req_v2*>(mnl_nlmsg_put_extra_header(request, sizeof(inet_diag_req_v2)));
  body->sdiag_family = static_cast<std::uint8_t>(family);
  body->sdiag_protocol = IPPROTO_TCP;
  body->idiag_states = kAllStates;
  const auto reply = diag.Request(request);
  if (!reply) return reply.error();
  if (reply->error != 0) return ErrnoError("list TCP sockets (is the module tcp_diag there?)", reply->error);
  ForEachMessage(reply->messages, [&sockets](const nlmsghdr* message) {
    if (message->nlmsg_type == SOCK_DIAG_BY_FAMILY) sockets.push_back(ReadSocket(message));
  });
  return {};
}

// The errno of the kernel's answer, or 0.
Result<int> Destroy(NetlinkSocket& diag, const Tuple& tuple, std::uint64_t cookie, int bound_ifindex) {
  RequestBuffer buffer;
  nlmsghdr* request = buffer.Header(SOCK_DESTROY, NLM_F_ACK);
  auto* body = static_cast<inet_diag_req_v2*>(mnl_nlmsg_put_extra_header(request, sizeof(inet_diag_req_v2)));
  // By the addresses, not by the socket: IPv4 connections of IPv6 sockets are found among the IPv4 ones.
  body->sdiag_family = tuple.local.IsV4() && tuple.remote.IsV4() ? AF_INET : AF_INET6;
  body->sdiag_protocol = IPPROTO_TCP;
  body->idiag_states = kAllStates;
  WriteAddress(tuple.local, body->id.idiag_src);
  WriteAddress(tuple.remote, body->id.idiag_dst);
  body->id.idiag_sport = htons(tuple.local_port);
  body->id.idiag_dport = htons(tuple.remote_port);
  body->id.idiag_if = static_cast<std::uint32_t>(bound_ifindex);
  body->id.idiag_cookie[0] = static_cast<std::uint32_t>(cookie);
  body->id.idiag_cookie[1] = static_cast<std::uint32_t>(cookie >> 32);
  const auto reply = diag.Request(request);
  if (!reply) return reply.error();
  return reply->error;
}

}  // namespace

Result<std::vector<TcpSocket>> TcpSockets(NetlinkSocket& diag) {
  std::vector<TcpSocket> sockets;
  for (const int family : {AF_INET, AF_INET6}) {
    auto dumped = Dump(diag, family, sockets);
    if (!dumped) return std::move(dumped).error();
  }
  return sockets;
}

Result<void> DestroySocket(NetlinkSocket& diag, const Tuple& tuple, std::uint64_t socket_cookie) {
  auto error = Destroy(diag, tuple, socket_cookie, 0);
  if (error && *error == ENOENT) {
    // Gone, or bound to a device: such a socket is found only where the request names it.
    const auto sockets = TcpSockets(diag);
    if (!sockets) return sockets.error();
    const auto found = std::find_if(sockets->begin(), sockets->end(), [&](const TcpSocket& socket) {
      return socket.cookie == socket_cookie && socket.tuple == tuple;
    });
    if (found == sockets->end()) return {};
    error = Destroy(diag, tuple, socket_cookie, found->bound_ifindex);
  }
  if (!error) return std::move(error).error();
  if (*error == 0 || *error == ENOENT) return {};
  const char* hint = *error == EOPNOTSUPP ? " (the kernel lacks CONFIG_INET_DIAG_DESTROY)" : "";
  return ErrnoError("close a connection from outside" + std::string(hint), *error);
}

}  // namespace egress::node
