#include "agent/node/link_monitor.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "agent/node/link.h"
#include "agent/node/netlink.h"
#include "agent/node/netns.h"

namespace egress::node {
namespace {

constexpr int kReceiveBuffer = 1 << 20;  // a few hundred messages: a node's pods all going at once
constexpr std::size_t kMessageBytes = 32 << 10;

void Read(const std::vector<char>& messages, LinkChanges& changes) {
  ForEachMessage(messages, [&changes](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWLINK && message->nlmsg_type != RTM_DELLINK) return;
    // AF_BRIDGE: a port joined or left a bridge, where RTM_DELLINK does not mean that the link is gone.
    const auto* header = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
    if (header->ifi_family != AF_UNSPEC) return;
    const Link link = ParseLink(message);
    changes.links.push_back({link.ifindex, link.name, message->nlmsg_type == RTM_DELLINK, link.xdp});
  });
}

}  // namespace

Result<LinkMonitor> LinkMonitor::Open() {
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!socket) return ErrnoError("open a netlink socket");
  return Subscribe(std::move(socket));
}

Result<LinkMonitor> LinkMonitor::OpenIn(const Fd& netns) {
  auto socket = SocketIn(netns, AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (!socket) return std::move(socket).error();
  return Subscribe(std::move(*socket));
}

Result<LinkMonitor> LinkMonitor::Subscribe(Fd socket) {
  // Without the privilege the default has to do; what does not fit is reported as lost.
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof kReceiveBuffer);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoError("subscribe to link changes");
  }
  return LinkMonitor(std::move(socket));
}

Result<LinkChanges> LinkMonitor::Poll() {
  LinkChanges changes;
  for (;;) {
    std::vector<char> buffer(kMessageBytes);
    sockaddr_nl from{};
    socklen_t from_size = sizeof from;
    const ssize_t size = ::recvfrom(socket_.get(), buffer.data(), buffer.size(), MSG_TRUNC,
                                    reinterpret_cast<sockaddr*>(&from), &from_size);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return changes;
    if (size < 0 && errno == ENOBUFS) {
      changes.resync = true;
      continue;
    }
    if (size < 0) return ErrnoError("read link changes");
    if (from.nl_pid != 0) continue;  // not from the kernel
    if (static_cast<std::size_t>(size) > buffer.size()) {
      changes.resync = true;
      continue;
    }
    buffer.resize(static_cast<std::size_t>(size));
    Read(buffer, changes);
  }
}

}  // namespace egress::node
