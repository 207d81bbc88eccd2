// Links and addresses of a network namespace, by rtnetlink. Each call works in the namespace of the socket it is given.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/fd.h"
#include "agent/base/result.h"
#include "agent/node/netlink.h"

namespace egress::node {

using MacAddress = std::array<std::uint8_t, 6>;

struct Link {
  int ifindex = 0;
  std::string name;
  std::string kind;                // IFLA_INFO_KIND: "veth", "macvlan", ...; empty for physical devices and lo
  int lower_ifindex = 0;           // IFLA_LINK: the peer of a veth, the device below a vlan or macvlan; 0: none
  std::optional<int> lower_netns;  // IFLA_LINK_NETNSID: where that one is, if it is in another namespace
  MacAddress mac{};                // zero where the device has none of six bytes
  std::uint32_t flags = 0;         // IFF_*
  bool xdp = false;                // an XDP program is attached

  bool is_loopback() const;
  bool is_up() const;
};

Result<std::vector<Link>> Links(NetlinkSocket& route);
// nullopt: there is no such link.
Result<std::optional<Link>> LinkByIndex(NetlinkSocket& route, int ifindex);

// What a message of type RTM_NEWLINK or RTM_DELLINK says.
Link ParseLink(const nlmsghdr* message);

struct LinkAddress {
  int ifindex = 0;
  Address address;
  std::uint8_t scope = 0;  // RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, ... (rtnetlink.h)
};

Result<std::vector<LinkAddress>> Addresses(NetlinkSocket& route);

// The number that stands for `netns` in the namespace of `route`; made where there is none yet. bpf_skc_lookup_tcp
// takes it, and Link::lower_netns names it.
Result<int> NetnsId(NetlinkSocket& route, const Fd& netns);

}  // namespace egress::node
