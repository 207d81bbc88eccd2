// The pods of a node as agent/node finds them, on real namespaces and links.
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "agent/node/interface_guard.h"
#include "agent/node/link_monitor.h"
#include "agent/node/netns.h"
#include "agent/node/pod_interface.h"
#include "tests/e2e/node_world.h"

namespace egress::node {
namespace {

class Node : public testing::Test {
 protected:
  static Fd Netns(const std::string& path) {
    auto netns = OpenNetns(path);
    EXPECT_TRUE(netns.ok()) << netns.error().message;
    return netns.ok() ? std::move(*netns) : Fd();
  }

  static PodInterface Find(const std::string& path, std::vector<Address> given = {}) {
    const Fd netns = Netns(path);
    auto found = FindPodInterface(netns, given);
    EXPECT_TRUE(found.ok()) << found.error().message;
    return found.ok() ? std::move(*found) : PodInterface{};
  }

  static bool Has(const PodInterface& pod, const std::string& address) {
    return std::ranges::count(pod.addresses, *ParseAddress(address)) == 1;
  }

  int HostIfindex(const std::string& name) {
    auto route = NetlinkSocket::Open(NETLINK_ROUTE);
    const auto links = Links(*route);
    for (const Link& link : *links) {
      if (link.name == name) return link.ifindex;
    }
    return 0;
  }

  // The smallest XDP program: return XDP_PASS.
  static Fd XdpPass() {
    bpf_insn instructions[2] = {};
    instructions[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
    instructions[0].imm = XDP_PASS;
    instructions[1].code = BPF_JMP | BPF_EXIT;
    bpf_attr attributes{};
    attributes.prog_type = BPF_PROG_TYPE_XDP;
    attributes.insn_cnt = std::size(instructions);
    attributes.insns = reinterpret_cast<std::uint64_t>(instructions);
    attributes.license = reinterpret_cast<std::uint64_t>("GPL");
    return Fd(static_cast<int>(::syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes)));
  }

  // Attaches a program to a link; -1 detaches.
  static void SetXdp(int ifindex, int program) {
    auto route = NetlinkSocket::Open(NETLINK_ROUTE);
    RequestBuffer buffer;
    nlmsghdr* request = buffer.Header(RTM_SETLINK, NLM_F_ACK);
    static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(request, sizeof(ifinfomsg)))->ifi_index = ifindex;
    nlattr* xdp = mnl_attr_nest_start(request, IFLA_XDP);
    mnl_attr_put_u32(request, IFLA_XDP_FD, static_cast<std::uint32_t>(program));
    mnl_attr_nest_end(request, xdp);
    const auto reply = route->Request(request);
    ASSERT_TRUE(reply.ok());
    ASSERT_EQ(reply->error, 0) << std::strerror(reply->error);
  }

  World world_;
};

TEST_F(Node, ANetnsIsKnownByACookieOfItsOwn) {
  const Fd a = Netns(world_.AddNetns("a"));
  const Fd b = Netns(world_.AddNetns("b"));
  const auto cookie = NetnsCookie(a);
  ASSERT_TRUE(cookie.ok()) << cookie.error().message;
  EXPECT_NE(*cookie, 0U);
  EXPECT_EQ(*cookie, *NetnsCookie(Netns(world_.Path("a"))));
  EXPECT_NE(*cookie, *NetnsCookie(b));
  EXPECT_NE(*cookie, *NetnsCookie(*CurrentNetns()));
}

TEST_F(Node, WhatIsNoNetnsIsAnErrorInWords) {
  world_.TouchNetns("empty");
  const auto empty = OpenNetns(world_.Path("empty"));
  ASSERT_FALSE(empty.ok());
  EXPECT_NE(empty.error().message.find("not a network namespace"), std::string::npos);
  EXPECT_FALSE(OpenNetns(world_.Path("missing")).ok());
  const auto mount_namespace = OpenNetns("/proc/self/ns/mnt");
  ASSERT_FALSE(mount_namespace.ok());
  EXPECT_NE(mount_namespace.error().message.find("but not a network namespace"), std::string::npos);
  EXPECT_TRUE(OpenNetns("/proc/self/ns/net").ok());
}

TEST_F(Node, AScopeEndsWhereItBegan) {
  const Fd before = std::move(*CurrentNetns());
  const Fd pod = Netns(world_.AddNetns("a"));
  {
    const auto scope = NetnsScope::Enter(pod);
    ASSERT_TRUE(scope.ok());
    EXPECT_TRUE(SameNetns("/proc/thread-self/ns/net", pod));
  }
  EXPECT_TRUE(SameNetns("/proc/thread-self/ns/net", before));
  EXPECT_FALSE(SameNetns("/proc/thread-self/ns/net", pod));
}

TEST_F(Node, APathIsNoLongerTheSameWhenItIsGoneOrLeadsElsewhere) {
  const Fd netns = Netns(world_.AddNetns("a"));
  EXPECT_TRUE(SameNetns(world_.Path("a"), netns));
  world_.RemoveNetns("a", false);
  EXPECT_FALSE(SameNetns(world_.Path("a"), netns));
  world_.BindNetns("a");
  EXPECT_FALSE(SameNetns(world_.Path("a"), netns));
  world_.RemoveNetns("a");
  EXPECT_FALSE(SameNetns(world_.Path("a"), netns));
}

TEST_F(Node, AVethToTheNodeGuardsAPodInBothFamilies) {
  const PodInterface pod = Find(world_.AddPod("a", 10));
  EXPECT_TRUE(pod.guarded) << pod.why_unguarded;
  EXPECT_EQ(pod.host_name, "v-a");
  EXPECT_EQ(pod.host_ifindex, HostIfindex("v-a"));
  EXPECT_GT(pod.pod_ifindex, 1);
  EXPECT_GE(pod.netns_id, 0);
  EXPECT_NE(pod.cookie, 0U);
  EXPECT_NE(pod.mac, MacAddress{});
  EXPECT_TRUE(Has(pod, "192.0.2.10"));
  EXPECT_TRUE(Has(pod, "2001:db8::10"));
  EXPECT_TRUE(Has(pod, LinkLocalOf(pod.mac).ToString()));
  EXPECT_EQ(pod.addresses.size(), 3U);
}

TEST_F(Node, TwoPodsAreToldApart) {
  const PodInterface a = Find(world_.AddPod("a", 10));
  const PodInterface b = Find(world_.AddPod("b", 11));
  EXPECT_EQ(a.host_name, "v-a");
  EXPECT_EQ(b.host_name, "v-b");
  EXPECT_NE(a.netns_id, b.netns_id);
}

TEST_F(Node, GivenAddressesAreThePodsAndThoseItAddsAreNot) {
  world_.AddPod("a", 10);
  world_.RunIn("a", "ip addr add 198.51.100.7/32 dev eth0");
  const PodInterface pod = Find(world_.Path("a"), {*ParseAddress("192.0.2.10")});
  EXPECT_TRUE(Has(pod, "192.0.2.10"));
  EXPECT_FALSE(Has(pod, "198.51.100.7"));
  EXPECT_TRUE(Has(pod, LinkLocalOf(pod.mac).ToString()));
  EXPECT_TRUE(Has(Find(world_.Path("a")), "198.51.100.7"));
}

TEST_F(Node, ALinkLocalAddressThatIsNotThereYetIsThePods) {
  world_.AddNetns("a");
  world_.Run("ip link add v-a type veth peer name eth0 netns " + world_.Path("a"));  // down: no address at all
  const PodInterface pod = Find(world_.Path("a"));
  EXPECT_TRUE(pod.guarded) << pod.why_unguarded;
  EXPECT_EQ(pod.addresses, std::vector{LinkLocalOf(pod.mac)});
}

TEST_F(Node, APodWithoutAnInterfaceIsUnguardedYet) {
  const PodInterface pod = Find(world_.AddNetns("a"));
  EXPECT_FALSE(pod.guarded);
  EXPECT_EQ(pod.why_unguarded, "no interface yet");
  EXPECT_EQ(pod.host_ifindex, 0);
}

TEST_F(Node, ASecondInterfaceMakesAPodUnguardedAlsoWhileItIsDown) {
  world_.AddPod("a", 10);
  world_.Run("ip link add v-a2 type veth peer name net1 netns " + world_.Path("a"));
  const PodInterface pod = Find(world_.Path("a"));
  EXPECT_FALSE(pod.guarded);
  EXPECT_EQ(pod.why_unguarded, "second interface net1 (veth)");
  EXPECT_EQ(pod.host_name, "v-a");  // its frames can be judged all the same
  world_.Run("ip link del v-a2");
  EXPECT_TRUE(Find(world_.Path("a")).guarded);
}

TEST_F(Node, AMacvlanIsUnguarded) {
  world_.AddNetns("a");
  world_.Run("ip link add lower type bridge && ip link set lower up");
  world_.Run("ip link add m0 link lower type macvlan && ip link set m0 netns " + world_.Path("a") + " name eth0");
  const PodInterface pod = Find(world_.Path("a"));
  EXPECT_FALSE(pod.guarded);
  EXPECT_EQ(pod.why_unguarded, "eth0 is macvlan: its frames do not pass the node's side of a veth");
  EXPECT_EQ(pod.host_ifindex, 0);
}

TEST_F(Node, AVethToAnotherPodIsUnguarded) {
  world_.AddNetns("a");
  world_.AddNetns("b");
  // Links of the node with the same numbers as the peer must not be taken for it.
  for (const std::string i : {"0", "1", "2", "3"}) world_.Run("ip link add x" + i + " type veth peer name y" + i);
  world_.RunIn("a", "ip link add eth0 type veth peer name eth0 netns " + world_.Path("b"));
  const PodInterface pod = Find(world_.Path("a"));
  EXPECT_FALSE(pod.guarded);
  EXPECT_NE(pod.why_unguarded.find("not in the node's network namespace"), std::string::npos) << pod.why_unguarded;
}

TEST_F(Node, LinksThatStayWithinThePodChangeNothing) {
  world_.AddPod("a", 10);
  world_.RunIn("a",
               "ip link add i0 type ifb && ip link add br0 type bridge && ip link add in0 type veth peer name in1 "
               "&& ip link add mv0 link eth0 type macvlan && ip link add vx0 type vxlan id 7 dstport 4789 "
               "&& ip link set in0 master br0 && ip link set br0 up && ip link set mv0 up && ip link set vx0 up");
  const PodInterface pod = Find(world_.Path("a"));
  EXPECT_TRUE(pod.guarded) << pod.why_unguarded;
  EXPECT_EQ(pod.host_name, "v-a");
}

TEST_F(Node, AWayOutOnTopOfADeviceOfTheNodeIsSeen) {
  world_.AddPod("a", 10);
  world_.Run("ip link add mv0 link v-a type macvlan && ip link set mv0 netns " + world_.Path("a"));
  const PodInterface macvlan = Find(world_.Path("a"));
  EXPECT_FALSE(macvlan.guarded);
  EXPECT_EQ(macvlan.why_unguarded, "second interface mv0 (macvlan)");
  world_.RunIn("a", "ip link del mv0");
  EXPECT_TRUE(Find(world_.Path("a")).guarded);
  // A tunnel whose packets leave by the node's stack, whatever the pod's own links are.
  world_.Run("ip link add vx0 type vxlan id 7 dstport 4789 && ip link set vx0 netns " + world_.Path("a"));
  EXPECT_EQ(Find(world_.Path("a")).why_unguarded, "second interface vx0 (vxlan)");
}

TEST_F(Node, ADeviceWhoseOtherHalfCannotBeToldIsASecondWayOut) {
  world_.AddPod("a", 10);
  world_.RunIn("a", "ip tuntap add mode tun name t0");
  EXPECT_EQ(Find(world_.Path("a")).why_unguarded, "second interface t0 (tun)");
}

TEST_F(Node, GroIsSwitchedOffOnTheNodesSideOnly) {
  world_.AddPod("a", 10);
  const int ifindex = HostIfindex("v-a");
  const auto quiet = KeepSocketsVisible(ifindex);
  ASSERT_TRUE(quiet.ok()) << quiet.error().message;
  EXPECT_FALSE(quiet->mended);
  auto monitor = LinkMonitor::Open();
  ASSERT_TRUE(monitor.ok());
  ASSERT_TRUE(SetGro("v-a", true).ok());
  EXPECT_TRUE(WaitReadable(monitor->fd())) << "switching GRO on makes an event";
  const auto report = KeepSocketsVisible(ifindex);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_TRUE(report->mended);
  EXPECT_EQ(report->fault, "");
  EXPECT_FALSE(KeepSocketsVisible(ifindex)->mended) << "it stays off";
  EXPECT_FALSE(KeepSocketsVisible(99999).ok());
}

TEST_F(Node, AnXdpProgramOnTheNodesSideIsReportedWhileItIsThere) {
  world_.AddPod("a", 10);
  const int ifindex = HostIfindex("v-a");
  const Fd program = XdpPass();
  ASSERT_TRUE(program.valid()) << std::strerror(errno);
  SetXdp(ifindex, program.get());
  const auto report = KeepSocketsVisible(ifindex);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_NE(report->fault.find("v-a has an XDP program"), std::string::npos) << report->fault;
  SetXdp(ifindex, -1);
  EXPECT_EQ(KeepSocketsVisible(ifindex)->fault, "");
}

}  // namespace
}  // namespace egress::node
