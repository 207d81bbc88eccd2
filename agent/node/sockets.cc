#include "agent/node/sockets.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <map>
#include <string>
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
Result<int> Destroy(NetlinkSocket& diag, const SocketId& socket, int bound_ifindex) {
  const Tuple& tuple = socket.tuple;
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
  body->id.idiag_cookie[0] = static_cast<std::uint32_t>(socket.cookie);
  body->id.idiag_cookie[1] = static_cast<std::uint32_t>(socket.cookie >> 32);
  const auto reply = diag.Request(request);
  if (!reply) return reply.error();
  return reply->error;
}

Error DestroyError(int error) {
  const char* hint = error == EOPNOTSUPP ? " (the kernel lacks CONFIG_INET_DIAG_DESTROY)" : "";
  return ErrnoError("close a connection from outside" + std::string(hint), error);
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

Result<void> DestroySockets(NetlinkSocket& diag, std::span<const SocketId> sockets) {
  Result<void> result;
  const auto keep_first = [&result](Error error) {
    if (result.ok()) result = std::move(error);
  };
  std::map<std::uint64_t, const SocketId*> not_found;
  for (const SocketId& socket : sockets) {
    const auto error = Destroy(diag, socket, 0);
    if (!error) return error.error();
    if (*error == ENOENT) {
      not_found[socket.cookie] = &socket;
    } else if (*error != 0) {
      keep_first(DestroyError(*error));
    }
  }
  if (not_found.empty()) return result;
  // Gone, or bound to a device: such a socket is found only where the request names the device. One list for all,
  // since it takes the kernel a walk through every socket of the machine.
  const auto present = TcpSockets(diag);
  if (!present) return present.error();
  for (const TcpSocket& socket : *present) {
    const auto found = not_found.find(socket.cookie);
    if (found == not_found.end() || found->second->tuple != socket.tuple) continue;
    const auto error = Destroy(diag, *found->second, socket.bound_ifindex);
    if (!error) return error.error();
    if (*error != 0 && *error != ENOENT) keep_first(DestroyError(*error));
  }
  return result;
}

Result<void> DestroySocket(NetlinkSocket& diag, const Tuple& tuple, std::uint64_t socket_cookie) {
  const SocketId socket{tuple, socket_cookie};
  return DestroySockets(diag, {&socket, 1});
}

}  // namespace egress::node
