#include "agent/node/netlink.h"

#include <sys/socket.h>

#include <optional>
#include <utility>

#include "agent/node/netns.h"

namespace egress::node {
namespace {

constexpr std::size_t kReceiveBytes = 64 << 10;  // the kernel fills at most 32 KiB of a dump at a time
constexpr int kDumpAttempts = 8;

Result<std::size_t> Receive(int fd, std::vector<char>& buffer) {
  for (;;) {
    const ssize_t size = ::recv(fd, buffer.data(), buffer.size(), MSG_TRUNC);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return ErrnoError("receive from netlink");
    if (static_cast<std::size_t>(size) > buffer.size()) return Error{"a netlink message is longer than expected"};
    return static_cast<std::size_t>(size);
  }
}

int ErrorOf(const nlmsghdr* message) { return -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(message))->error; }

// NLMSG_DONE carries an errno since Linux 4.x where a dump broke off.
int ErrorOfDone(const nlmsghdr* message) {
  if (mnl_nlmsg_get_payload_len(message) < sizeof(int)) return 0;
  return -*static_cast<const int*>(mnl_nlmsg_get_payload(message));
}

}  // namespace

Result<NetlinkSocket> NetlinkSocket::Open(int bus) {
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, bus));
  if (!socket) return ErrnoError("open a netlink socket");
  return NetlinkSocket(std::move(socket));
}

Result<NetlinkSocket> NetlinkSocket::OpenIn(const Fd& netns, int bus) {
  auto socket = SocketIn(netns, AF_NETLINK, SOCK_RAW, bus);
  if (!socket) return std::move(socket).error().Wrap("netlink");
  return NetlinkSocket(std::move(*socket));
}

Result<NetlinkSocket::Reply> NetlinkSocket::Request(nlmsghdr* request) {
  for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
    bool interrupted = false;
    auto reply = Exchange(request, &interrupted);
    if (!reply || !interrupted) return reply;
  }
  return Error{"netlink: the answer changes faster than it can be read"};
}

Result<NetlinkSocket::Reply> NetlinkSocket::Exchange(nlmsghdr* request, bool* interrupted) {
  request->nlmsg_seq = ++sequence_;
  // The destination is the kernel: a zeroed sockaddr_nl, which is also what an unconnected socket sends to.
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (::sendto(socket_.get(), request, request->nlmsg_len, 0, reinterpret_cast<const sockaddr*>(&kernel),
               sizeof kernel) < 0) {
    return ErrnoError("send to netlink");
  }
  Reply reply;
  std::vector<char> buffer(kReceiveBytes);
  for (;;) {
    const auto size = Receive(socket_.get(), buffer);
    if (!size) return size.error();
    int left = static_cast<int>(*size);
    const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data());
    for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
      if (message->nlmsg_seq != sequence_) continue;  // the rest of an answer that was given up
      if ((message->nlmsg_flags & NLM_F_DUMP_INTR) != 0) *interrupted = true;
      if (message->nlmsg_type == NLMSG_ERROR || message->nlmsg_type == NLMSG_DONE) {
        reply.error = message->nlmsg_type == NLMSG_ERROR ? ErrorOf(message) : ErrorOfDone(message);
        if (reply.error != 0) reply.messages.clear();
        return reply;
      }
      const auto* bytes = reinterpret_cast<const char*>(message);
      reply.messages.insert(reply.messages.end(), bytes, bytes + message->nlmsg_len);
      reply.messages.resize(MNL_ALIGN(reply.messages.size()));
    }
  }
}

nlmsghdr* RequestBuffer::Header(std::uint16_t type, std::uint16_t flags) {
  nlmsghdr* header = mnl_nlmsg_put_header(bytes.data());
  header->nlmsg_type = type;
  header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  return header;
}

int internal::StoreAttribute(const nlattr* attribute, void* sink) {
  const auto* to = static_cast<const AttributeSink*>(sink);
  const std::uint16_t type = mnl_attr_get_type(attribute);
  if (type < to->size) to->table[type] = attribute;
  return MNL_CB_OK;
}

}  // namespace egress::node
