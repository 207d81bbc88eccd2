#include "agent/node/pod_interface.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "agent/node/netns.h"

namespace egress::node {
namespace {

using std::string_view_literals::operator""sv;

// Devices that send nothing anywhere by themselves: sinks, taps, and masters whose ports are links of their own.
constexpr std::array kWithoutWayOut = {"dummy"sv, "ifb"sv, "nlmon"sv, "bridge"sv, "bond"sv, "team"sv, "vrf"sv};

// Devices on top of another device or of the IP stack, of which the kernel tells by IFLA_LINK_NETNSID when that one
// is in another namespace. Without it, what they send leaves by the pod's other links.
constexpr std::array kStacked = {"vlan"sv,   "macvlan"sv, "macvtap"sv,   "ipvlan"sv, "ipvtap"sv, "macsec"sv,
                                 "ipip"sv,   "sit"sv,     "gre"sv,       "gretap"sv, "erspan"sv, "vti"sv,
                                 "ip6tnl"sv, "ip6gre"sv,  "ip6gretap"sv, "vti6"sv,   "vxlan"sv,  "ip6erspan"sv};

template <std::size_t N>
bool IsOneOf(const std::array<std::string_view, N>& kinds, std::string_view kind) {
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

bool IsWayOut(const Link& link) {
  if (link.is_loopback() || IsOneOf(kWithoutWayOut, link.kind)) return false;
  // A veth without it has both ends in the pod.
  const bool stays_inside = IsOneOf(kStacked, link.kind) || link.kind == "veth";
  return !stays_inside || link.lower_netns.has_value();
}

std::string InWords(const Link& link) {
  return link.name + " is " + (link.kind.empty() ? "a physical device (such as an SR-IOV function)" : link.kind);
}

// Both ends of a veth as each namespace describes them: does `inside` end in the node's namespace?
Result<std::optional<Link>> HostSide(NetlinkSocket& node, const Link& inside, int netns_id) {
  auto host = LinkByIndex(node, inside.lower_ifindex);
  if (!host || !*host) return host;
  const Link& link = **host;
  // The number alone may belong to any link: the one here has to lead back to this very interface.
  if (link.kind != "veth" || link.lower_ifindex != inside.ifindex || link.lower_netns != netns_id) {
    return std::optional<Link>();
  }
  return host;
}

void AddOnce(std::vector<Address>& addresses, const Address& address) {
  if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) addresses.push_back(address);
}

bool IsLinkLocalV6(const Address& address) { return address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80; }

std::vector<Address> OwnAddresses(const Link& inside, std::span<const Address> given,
                                  const std::vector<LinkAddress>& all) {
  std::vector<Address> own;
  for (const Address& address : given) AddOnce(own, address);
  for (const LinkAddress& entry : all) {
    if (given.empty() && entry.ifindex == inside.ifindex && entry.scope == RT_SCOPE_UNIVERSE) {
      AddOnce(own, entry.address);
    }
  }
  bool has_link_local = false;
  for (const LinkAddress& entry : all) {
    if (entry.ifindex != inside.ifindex || !IsLinkLocalV6(entry.address)) continue;
    AddOnce(own, entry.address);
    has_link_local = true;
  }
  // The kernel gives it once the link is up on both sides, which may be later than now.
  if (!has_link_local) AddOnce(own, LinkLocalOf(inside.mac));
  return own;
}

Result<void> Describe(NetlinkSocket& node, NetlinkSocket& pod, std::span<const Address> given, PodInterface& found) {
  auto links = Links(pod);
  if (!links) return std::move(links).error();
  std::erase_if(*links, [](const Link& link) { return !IsWayOut(link); });
  if (links->empty()) {
    found.why_unguarded = "no interface yet";
    return {};
  }
  const Link* inside = nullptr;
  std::string why;
  for (const Link& link : *links) {
    if (link.kind != "veth") {
      if (why.empty()) why = InWords(link) + ": its frames do not pass the node's side of a veth";
      continue;
    }
    const auto host = HostSide(node, link, found.netns_id);
    if (!host) return host.error();
    if (!*host) {
      found.elsewhere = true;
      if (why.empty()) why = link.name + " is a veth whose other end is not in the node's network namespace";
    } else if (inside == nullptr) {
      inside = &link;
      found.pod_ifindex = link.ifindex;
      found.host_ifindex = (*host)->ifindex;
      found.host_name = (*host)->name;
      found.mac = link.mac;
    }
  }
  if (inside != nullptr) {
    found.elsewhere = false;
    const auto addresses = Addresses(pod);
    if (!addresses) return addresses.error();
    found.addresses = OwnAddresses(*inside, given, *addresses);
  }
  if (inside != nullptr && links->size() > 1) {
    const auto second = std::find_if(links->begin(), links->end(), [&](const Link& link) { return &link != inside; });
    why = "second interface " + second->name + " (" + (second->kind.empty() ? "physical" : second->kind) + ")";
  }
  found.guarded = why.empty();
  found.why_unguarded = std::move(why);
  return {};
}

}  // namespace

Result<PodInterface> FindPodInterface(const Fd& netns, std::span<const Address> given) {
  PodInterface found;
  const auto cookie = NetnsCookie(netns);
  if (!cookie) return cookie.error();
  found.cookie = *cookie;
  found.addresses.assign(given.begin(), given.end());

  auto node = NetlinkSocket::Open(NETLINK_ROUTE);
  if (!node) return std::move(node).error();
  auto pod = NetlinkSocket::OpenIn(netns, NETLINK_ROUTE);
  if (!pod) return std::move(pod).error();
  const auto id = NetnsId(*node, netns);
  if (!id) return id.error();
  found.netns_id = *id;

  auto described = Describe(*node, *pod, given, found);
  if (!described) return std::move(described).error();
  return found;
}

Address LinkLocalOf(const MacAddress& mac) {
  Address address;
  address.bytes = {0xfe,   0x80,   0,    0,    0,      0,      0,     0, static_cast<std::uint8_t>(mac[0] ^ 0x02),
                   mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
  return address;
}

}  // namespace egress::node
