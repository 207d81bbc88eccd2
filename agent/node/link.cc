#include "agent/node/link.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

namespace egress::node {
namespace {

Result<std::vector<char>> Answer(NetlinkSocket& route, nlmsghdr* request, const char* what) {
  auto reply = route.Request(request);
  if (!reply) return std::move(reply).error().Wrap(what);
  if (reply->error != 0) return ErrnoError(what, reply->error);
  return std::move(reply->messages);
}

void ReadKind(const nlattr* link_info, Link& link) {
  const auto info = AttributesIn<IFLA_INFO_KIND>(link_info);
  if (info[IFLA_INFO_KIND] != nullptr) link.kind = mnl_attr_get_str(info[IFLA_INFO_KIND]);
}

void ReadXdp(const nlattr* xdp, Link& link) {
  const auto attributes = AttributesIn<IFLA_XDP_ATTACHED>(xdp);
  const nlattr* attached = attributes[IFLA_XDP_ATTACHED];
  link.xdp = attached != nullptr && mnl_attr_get_u8(attached) != XDP_ATTACHED_NONE;
}

Address ReadAddress(std::uint8_t family, const nlattr* attribute) {
  Address address;
  const auto* bytes = static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute));
  const std::size_t length = mnl_attr_get_payload_len(attribute);
  if (family == AF_INET && length == 4) {
    address.bytes[10] = address.bytes[11] = 0xff;
    std::copy_n(bytes, 4, address.bytes.begin() + 12);
  } else if (family == AF_INET6 && length == 16) {
    std::copy_n(bytes, 16, address.bytes.begin());
  }
  return address;
}

// The id that `route`'s namespace has for `netns`; NETNSA_NSID_NOT_ASSIGNED where there is none.
Result<int> LookUpNetnsId(NetlinkSocket& route, const Fd& netns) {
  RequestBuffer buffer;
  // With an acknowledgement behind the answer, as for every request here, so that the end is always seen.
  nlmsghdr* request = buffer.Header(RTM_GETNSID, NLM_F_ACK);
  mnl_nlmsg_put_extra_header(request, sizeof(rtgenmsg));
  mnl_attr_put_u32(request, NETNSA_FD, static_cast<std::uint32_t>(netns.get()));
  const auto answer = Answer(route, request, "look up the id of a network namespace");
  if (!answer) return answer.error();
  int id = NETNSA_NSID_NOT_ASSIGNED;
  ForEachMessage(*answer, [&id](const nlmsghdr* message) {
    const auto attributes = AttributesOf<NETNSA_MAX>(message, sizeof(rtgenmsg));
    if (attributes[NETNSA_NSID] != nullptr) id = static_cast<int>(mnl_attr_get_u32(attributes[NETNSA_NSID]));
  });
  return id;
}

}  // namespace

bool Link::is_loopback() const { return (flags & IFF_LOOPBACK) != 0; }
bool Link::is_up() const { return (flags & IFF_UP) != 0; }

Link ParseLink(const nlmsghdr* message) {
  const auto* header = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  const auto attributes = AttributesOf<IFLA_MAX>(message, sizeof(ifinfomsg));
  Link link;
  link.ifindex = header->ifi_index;
  link.flags = header->ifi_flags;
  if (attributes[IFLA_IFNAME] != nullptr) link.name = mnl_attr_get_str(attributes[IFLA_IFNAME]);
  if (attributes[IFLA_LINKINFO] != nullptr) ReadKind(attributes[IFLA_LINKINFO], link);
  if (attributes[IFLA_XDP] != nullptr) ReadXdp(attributes[IFLA_XDP], link);
  if (const nlattr* lower = attributes[IFLA_LINK]) link.lower_ifindex = static_cast<int>(mnl_attr_get_u32(lower));
  if (const nlattr* id = attributes[IFLA_LINK_NETNSID]) link.lower_netns = static_cast<int>(mnl_attr_get_u32(id));
  if (const nlattr* mac = attributes[IFLA_ADDRESS]; mac != nullptr && mnl_attr_get_payload_len(mac) == 6) {
    std::copy_n(static_cast<const std::uint8_t*>(mnl_attr_get_payload(mac)), 6, link.mac.begin());
  }
  return link;
}

Result<std::vector<Link>> Links(NetlinkSocket& route) {
  RequestBuffer buffer;
  nlmsghdr* request = buffer.Header(RTM_GETLINK, NLM_F_DUMP);
  mnl_nlmsg_put_extra_header(request, sizeof(ifinfomsg));
  mnl_attr_put_u32(request, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  const auto answer = Answer(route, request, "list links");
  if (!answer) return answer.error();
  std::vector<Link> links;
  ForEachMessage(*answer, [&links](const nlmsghdr* message) {
    if (message->nlmsg_type == RTM_NEWLINK) links.push_back(ParseLink(message));
  });
  return links;
}

Result<std::optional<Link>> LinkByIndex(NetlinkSocket& route, int ifindex) {
  RequestBuffer buffer;
  nlmsghdr* request = buffer.Header(RTM_GETLINK, NLM_F_ACK);
  auto* header = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(request, sizeof(ifinfomsg)));
  header->ifi_index = ifindex;
  mnl_attr_put_u32(request, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  auto reply = route.Request(request);
  if (!reply) return std::move(reply).error().Wrap("look up a link");
  if (reply->error == ENODEV) return std::optional<Link>();
  if (reply->error != 0) return ErrnoError("look up link " + std::to_string(ifindex), reply->error);
  std::optional<Link> link;
  ForEachMessage(reply->messages, [&link](const nlmsghdr* message) {
    if (message->nlmsg_type == RTM_NEWLINK) link = ParseLink(message);
  });
  return link;
}

Result<std::vector<LinkAddress>> Addresses(NetlinkSocket& route) {
  RequestBuffer buffer;
  nlmsghdr* request = buffer.Header(RTM_GETADDR, NLM_F_DUMP);
  mnl_nlmsg_put_extra_header(request, sizeof(ifaddrmsg));
  const auto answer = Answer(route, request, "list addresses");
  if (!answer) return answer.error();
  std::vector<LinkAddress> addresses;
  ForEachMessage(*answer, [&addresses](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWADDR) return;
    const auto* header = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
    const auto attributes = AttributesOf<IFA_MAX>(message, sizeof(ifaddrmsg));
    // On a point-to-point address IFA_ADDRESS is the other end, and IFA_LOCAL ours.
    const nlattr* own = attributes[IFA_LOCAL] != nullptr ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
    if (own == nullptr) return;
    addresses.push_back({static_cast<int>(header->ifa_index), ReadAddress(header->ifa_family, own), header->ifa_scope});
  });
  return addresses;
}

Result<int> NetnsId(NetlinkSocket& route, const Fd& netns) {
  auto known = LookUpNetnsId(route, netns);
  if (!known || *known != NETNSA_NSID_NOT_ASSIGNED) return known;
  RequestBuffer buffer;
  nlmsghdr* request = buffer.Header(RTM_NEWNSID, NLM_F_ACK);
  mnl_nlmsg_put_extra_header(request, sizeof(rtgenmsg));
  mnl_attr_put_u32(request, NETNSA_NSID, static_cast<std::uint32_t>(-1));  // the kernel chooses
  mnl_attr_put_u32(request, NETNSA_FD, static_cast<std::uint32_t>(netns.get()));
  const auto made = route.Request(request);
  if (!made) return made.error();
  // EEXIST: the kernel itself gave one meanwhile, for a link that leads there.
  if (made->error != 0 && made->error != EEXIST) {
    return ErrnoError("give an id to a network namespace (needs CAP_NET_ADMIN)", made->error);
  }
  auto id = LookUpNetnsId(route, netns);
  if (id && *id == NETNSA_NSID_NOT_ASSIGNED) return Error{"the kernel gave no id to a network namespace"};
  return id;
}

}  // namespace egress::node
