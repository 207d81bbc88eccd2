// NetlinkSocket: requests to the kernel and their whole answers. libmnl writes and reads the messages.
#pragma once

#include <libmnl/libmnl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"

namespace egress::node {

class NetlinkSocket {
 public:
  // `bus`: NETLINK_ROUTE, NETLINK_SOCK_DIAG. Without `netns` the socket works in the caller's namespace.
  static Result<NetlinkSocket> Open(int bus);
  static Result<NetlinkSocket> OpenIn(const Fd& netns, int bus);

  struct Reply {
    std::vector<char> messages;  // without acknowledgements and NLMSG_DONE; empty where `error` is set
    int error = 0;               // the kernel's answer: 0, or a positive errno
  };

  // Sends `request` (flags NLM_F_REQUEST with NLM_F_ACK or NLM_F_DUMP; the sequence number is set here) and reads
  // until it is answered. A dump that the kernel reports as inconsistent (something changed meanwhile) is asked for
  // again. Fails only where the kernel cannot be talked to.
  Result<Reply> Request(nlmsghdr* request);

  int fd() const { return socket_.get(); }

 private:
  explicit NetlinkSocket(Fd socket) : socket_(std::move(socket)) {}
  Result<Reply> Exchange(nlmsghdr* request, bool* interrupted);

  Fd socket_;
  std::uint32_t sequence_ = 0;
};

// Room for one request.
struct RequestBuffer {
  alignas(nlmsghdr) std::array<char, 1024> bytes{};
  nlmsghdr* Header(std::uint16_t type, std::uint16_t flags);
};

// Calls `each(const nlmsghdr*)` for the messages of a buffer.
template <typename Each>
void ForEachMessage(const std::vector<char>& messages, Each each) {
  int left = static_cast<int>(messages.size());
  const auto* message = reinterpret_cast<const nlmsghdr*>(messages.data());
  while (mnl_nlmsg_ok(message, left)) {
    each(message);
    message = mnl_nlmsg_next(message, &left);
  }
}

// The attributes of a message (behind a header of `header_size` bytes) or of a nested attribute by type; nullptr
// where there is none. Types above Max are left out.
template <std::size_t Max>
using AttributeTable = std::array<const nlattr*, Max + 1>;

namespace internal {
struct AttributeSink {
  const nlattr** table;
  std::size_t size;
};
int StoreAttribute(const nlattr* attribute, void* sink);
}  // namespace internal

template <std::size_t Max>
AttributeTable<Max> AttributesOf(const nlmsghdr* message, std::size_t header_size) {
  AttributeTable<Max> table{};
  internal::AttributeSink sink{table.data(), table.size()};
  mnl_attr_parse(message, static_cast<unsigned>(header_size), internal::StoreAttribute, &sink);
  return table;
}

template <std::size_t Max>
AttributeTable<Max> AttributesIn(const nlattr* nested) {
  AttributeTable<Max> table{};
  internal::AttributeSink sink{table.data(), table.size()};
  mnl_attr_parse_nested(nested, internal::StoreAttribute, &sink);
  return table;
}

}  // namespace egress::node
