#include <gtest/gtest.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <array>

#include "agent/node/link.h"
#include "agent/node/pod_interface.h"

namespace egress::node {
namespace {

// An RTM_NEWLINK message as the kernel writes it.
struct LinkMessage {
  LinkMessage() {
    header = buffer.Header(RTM_NEWLINK, 0);
    body = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ifinfomsg)));
  }
  RequestBuffer buffer;
  nlmsghdr* header;
  ifinfomsg* body;
};

TEST(ParseLink, ReadsBothEndsOfAVeth) {
  LinkMessage message;
  message.body->ifi_index = 7;
  message.body->ifi_flags = IFF_UP;
  const MacAddress mac = {2, 0, 0, 0, 0, 1};
  mnl_attr_put_strz(message.header, IFLA_IFNAME, "eth0");
  mnl_attr_put(message.header, IFLA_ADDRESS, mac.size(), mac.data());
  mnl_attr_put_u32(message.header, IFLA_LINK, 42);
  mnl_attr_put_u32(message.header, IFLA_LINK_NETNSID, 0);
  nlattr* info = mnl_attr_nest_start(message.header, IFLA_LINKINFO);
  mnl_attr_put_strz(message.header, IFLA_INFO_KIND, "veth");
  mnl_attr_nest_end(message.header, info);
  const Link link = ParseLink(message.header);
  EXPECT_EQ(link.ifindex, 7);
  EXPECT_EQ(link.name, "eth0");
  EXPECT_EQ(link.kind, "veth");
  EXPECT_EQ(link.lower_ifindex, 42);
  EXPECT_EQ(link.lower_netns, 0);
  EXPECT_EQ(link.mac, mac);
  EXPECT_TRUE(link.is_up());
  EXPECT_FALSE(link.is_loopback());
  EXPECT_FALSE(link.xdp);
}

TEST(ParseLink, WhatIsNotSaidIsNotThere) {
  LinkMessage message;
  message.body->ifi_flags = IFF_LOOPBACK;
  const std::array<std::uint8_t, 4> tunnel_end = {192, 0, 2, 1};  // a tunnel's "MAC" is an address
  mnl_attr_put(message.header, IFLA_ADDRESS, tunnel_end.size(), tunnel_end.data());
  const Link link = ParseLink(message.header);
  EXPECT_EQ(link.kind, "");
  EXPECT_EQ(link.lower_netns, std::nullopt);
  EXPECT_EQ(link.mac, MacAddress{});
  EXPECT_TRUE(link.is_loopback());
  EXPECT_FALSE(link.is_up());
}

TEST(ParseLink, SeesAnXdpProgram) {
  for (const std::uint8_t mode : {XDP_ATTACHED_NONE, XDP_ATTACHED_DRV, XDP_ATTACHED_SKB, XDP_ATTACHED_MULTI}) {
    LinkMessage message;
    nlattr* xdp = mnl_attr_nest_start(message.header, IFLA_XDP);
    mnl_attr_put_u8(message.header, IFLA_XDP_ATTACHED, mode);
    mnl_attr_nest_end(message.header, xdp);
    EXPECT_EQ(ParseLink(message.header).xdp, mode != XDP_ATTACHED_NONE) << int{mode};
  }
}

TEST(LinkLocal, IsMadeFromTheMac) {
  EXPECT_EQ(LinkLocalOf({0x02, 0x00, 0x5e, 0x10, 0x20, 0x30}).ToString(), "fe80::5eff:fe10:2030");
  EXPECT_EQ(LinkLocalOf({0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}).ToString(), "fe80::a8bb:ccff:fedd:eeff");
}

}  // namespace
}  // namespace egress::node
