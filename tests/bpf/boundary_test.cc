// The boundary's programs as they are, on frames of every kind: what needs no socket.

#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>

#include "agent/datapath/readers.h"
#include "tests/bpf/boundary_cases.h"
#include "tests/bpf/boundary_fixture.h"

namespace egress::test {
namespace {

std::vector<DeniedFrame> AllDeniedFrames() {
  std::vector<DeniedFrame> all;
  for (const Place& place : Places()) {
    for (DeniedFrame& denied : DeniedFrames(place)) all.push_back(std::move(denied));
  }
  return all;
}

TEST_F(Boundary, RefusesEachKindOfFrameWithItsReasonAndPassesItsTwin) {
  for (const DeniedFrame& denied : AllDeniedFrames()) {
    SCOPED_TRACE(denied.name);
    const Outcome outcome = pod_->Leave(Frame(denied.packet));
    EXPECT_TRUE(denied.answered ? outcome.answered() : outcome.dropped()) << "action " << outcome.action;
    EXPECT_EQ(pod_->TakeTold(), (Told{{{denied.label, EGRESS_DENY, denied.reason}, 1}}));
    if (denied.twin) {
      ExpectPasses(*denied.twin, "its twin");
      continue;
    }
    Packet twin = denied.packet;
    const Place& place = Places()[twin.destination.IsV4() ? 0 : 1];
    twin.destination = place.mesh;
    ExpectPasses(twin, "to the mesh");
    twin.destination = place.excluded;
    ExpectPasses(twin, "to an excluded range");
  }
}

TEST_F(Boundary, LetsEverythingPassWhereEgressIsOpen) {
  datapath::PodMode mode;
  mode.open = true;
  pod_->SetMode(mode);
  for (const DeniedFrame& denied : AllDeniedFrames()) ExpectPasses(denied.packet, denied.name.c_str());
}

TEST_F(Boundary, RefusesNothingUnderAuditAndTellsIt) {
  datapath::PodMode mode;
  mode.audit = true;
  pod_->SetMode(mode);
  for (const DeniedFrame& denied : AllDeniedFrames()) {
    SCOPED_TRACE(denied.name);
    const Bytes frame = Frame(denied.packet);
    const Outcome outcome = pod_->Leave(frame);
    EXPECT_TRUE(outcome.passed()) << "action " << outcome.action;
    EXPECT_EQ(outcome.frame, frame);
    EXPECT_EQ(pod_->TakeTold(), (Told{{{denied.label, EGRESS_AUDIT, denied.reason}, 1}}));
  }
}

TEST_F(Boundary, OpensAllButTcpAndBadFramesWhereOtherProtocolsAreAllowed) {
  auto network = PlainNetwork();
  network.other_protocols_allowed = true;
  ASSERT_TRUE(pod_->SetNetwork(network));
  int opened = 0;
  for (const DeniedFrame& denied : AllDeniedFrames()) {
    SCOPED_TRACE(denied.name);
    const bool ip = !denied.packet.ether_type && denied.packet.tags.empty() && !denied.packet.version &&
                    denied.packet.source.IsV4() == denied.packet.destination.IsV4() && !denied.packet.force_ip6;
    if (ip && denied.reason == EGRESS_REASON_PROTOCOL) {
      ExpectPasses(denied.packet, "other protocols");
      ++opened;
      continue;
    }
    EXPECT_FALSE(pod_->Leave(Frame(denied.packet)).passed());
    EXPECT_EQ(pod_->TakeTold(), (Told{{{denied.label, EGRESS_DENY, denied.reason}, 1}}));
  }
  EXPECT_GT(opened, 20);
}

TEST_F(Boundary, LetsAnUnguardedPodReachTheMeshAlone) {
  datapath::PodMode mode;
  mode.unguarded = true;
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    const Packet to_dns = [&] {
      Packet packet = GuardedPod::To(place.dns, IPPROTO_UDP);
      packet.port = 53;
      return packet;
    }();
    pod_->SetMode({});
    ExpectPasses(to_dns, "name server, guarded");
    ExpectPasses(GuardedPod::To(place.excluded, IPPROTO_UDP), "excluded, guarded");
    pod_->SetMode(mode);
    ExpectPasses(GuardedPod::To(place.mesh, IPPROTO_UDP), "mesh");
    for (const Packet& packet : {to_dns, GuardedPod::To(place.excluded, IPPROTO_UDP)}) {
      EXPECT_TRUE(pod_->Leave(Frame(packet)).dropped());
      EXPECT_EQ(pod_->TakeTold(), (Told{{{EGRESS_UDP, EGRESS_DENY, EGRESS_REASON_PROTOCOL}, 1}}));
    }
  }
}

// Translated or unpacked on its way, a packet to one of these reaches an IPv4 address: both have to be ungoverned.
TEST_F(Boundary, JudgesIp4InIp6ByBothAddresses) {
  auto network = PlainNetwork();
  for (const char* form : {"64:ff9b::/96", "2002::/16", "2001::/32"}) network.mesh.push_back(*ParsePrefix(form));
  network.dns_servers.push_back(*ParseAddress("64:ff9b::cb00:7135"));
  ASSERT_TRUE(pod_->SetNetwork(network));
  const auto to = [](const char* address, std::uint16_t port = 443) {
    Packet packet = GuardedPod::To(*ParseAddress(address), IPPROTO_UDP);
    packet.port = port;
    return packet;
  };
  for (const char* inside : {"64:ff9b::a01:203", "64:ff9b::c633:6409", "2002:a01:203::1", "2001:0:a01:203::f5fe:fdfc",
                             "2001:0:a01:203::39cc:9bf6"}) {
    ExpectPasses(to(inside), inside);
    Packet fragment = to(inside);
    fragment.extensions = {Fragment(1)};
    ExpectPasses(fragment, inside);
  }
  for (const char* outside : {"64:ff9b::cb00:7109", "64:ff9b::7f00:1", "2002:cb00:7109::1",
                              "2001:0:cb00:7109::f5fe:fdfc", "2001:0:a01:203::34ff:8ef6"}) {
    SCOPED_TRACE(outside);
    EXPECT_TRUE(pod_->Leave(Frame(to(outside))).dropped());
    EXPECT_EQ(pod_->TakeTold(), (Told{{{EGRESS_UDP, EGRESS_DENY, EGRESS_REASON_PROTOCOL}, 1}}));
    Packet fragment = to(outside);
    fragment.extensions = {Fragment(1)};
    EXPECT_TRUE(pod_->Leave(Frame(fragment)).dropped());
    EXPECT_EQ(pod_->TakeTold(), (Told{{{EGRESS_OTHER, EGRESS_DENY, EGRESS_REASON_FRAGMENT}, 1}}));
  }
  ExpectPasses(to("64:ff9b::cb00:7135", 53), "a name server of both families");
  ASSERT_TRUE(pod_->SetNetwork(PlainNetwork()));
  EXPECT_TRUE(pod_->Leave(Frame(to("64:ff9b::a01:203"))).dropped()) << "the IPv4 address alone is not enough";
  pod_->TakeTold();
}

TEST_F(Boundary, PassesArpThatSpeaksForThePodAlone) {
  const Arp honest{kPodMac, 1, kPodMac, GuardedPod::Own(Places()[0].mesh), *ParseAddress("192.0.2.1"), 6};
  const auto expect = [&](const char* what, bool passes, auto change) {
    Arp arp = honest;
    change(&arp);
    SCOPED_TRACE(what);
    const Outcome outcome = pod_->Leave(Frame(arp));
    EXPECT_EQ(outcome.passed(), passes) << outcome.action;
    const Told refused{{{EGRESS_OTHER, EGRESS_DENY, EGRESS_REASON_SPOOFED_SOURCE}, 1}};
    EXPECT_EQ(pod_->TakeTold(), passes ? Told{} : refused);
  };
  const Address neighbour = *ParseAddress("192.0.2.8");
  expect("a question", true, [](Arp*) {});
  expect("an answer", true, [](Arp* arp) { arp->operation = 2; });
  expect("a probe", true, [](Arp* arp) { arp->sender = *ParseAddress("0.0.0.0"); });
  expect("the frame of another MAC", false, [](Arp* arp) { arp->from = kNodeMac; });
  expect("for another MAC", false, [](Arp* arp) { arp->sender_mac = kNodeMac; });
  expect("for a neighbour's address", false, [&](Arp* arp) { arp->sender = neighbour; });
  expect("an answer for a neighbour", false, [&](Arp* arp) { arp->operation = 2, arp->sender = neighbour; });
  expect("other hardware", false, [](Arp* arp) { arp->hardware_length = 8; });
  Bytes cut = Frame(honest);
  cut.pop_back();
  EXPECT_TRUE(pod_->Leave(cut).dropped()) << "not all of it";
  pod_->TakeTold();
}

// What a host needs on its link: duplicate address detection, probes of the router, and group membership.
TEST_F(Boundary, PassesNeighbourDiscovery) {
  const auto pass = [&](std::uint8_t type, const char* from, const char* to, std::uint8_t hop_limit) {
    Packet packet = GuardedPod::To(Places()[1].outside, IPPROTO_ICMPV6);
    packet.icmp_type = type;
    packet.source = *ParseAddress(from);
    packet.destination = *ParseAddress(to);
    packet.hop_limit = hop_limit;
    const Address target = GuardedPod::Own(packet.destination);
    packet.payload.assign(target.bytes.begin(), target.bytes.end());
    ExpectPasses(packet, to);
  };
  pass(135, "::", "ff02::1:ff00:7", 255);
  pass(135, "2001:db8::7", "ff02::1:ff00:1", 255);
  pass(135, "fe80::7", "fe80::1", 255);
  pass(135, "2001:db8::7", "2001:db8::1", 255);  // is the router, an address of the pod's own network, still there?
  pass(136, "2001:db8::7", "2001:db8::1", 255);
  pass(136, "fe80::7", "fd00::1", 255);
  pass(133, "::", "ff02::2", 255);
  pass(143, "::", "ff02::16", 1);
  Packet report = GuardedPod::To(*ParseAddress("ff02::16"), IPPROTO_ICMPV6);
  report.icmp_type = 143;
  report.hop_limit = 1;
  report.extensions = {HopByHop()};  // the router alert
  ExpectPasses(report, "report with a router alert");
}

TEST_F(Boundary, TakesHarmlessExtensionHeadersForWhatTheyAre) {
  Packet dns = GuardedPod::To(Places()[1].dns, IPPROTO_UDP);
  dns.port = 53;
  dns.extensions = {HopByHop(), DestinationOptions(), Fragment(0)};
  ExpectPasses(dns, "hop-by-hop, options, atomic fragment");
  dns.extensions = std::vector<Extension>(8, DestinationOptions());
  ExpectPasses(dns, "eight headers");
  dns.extensions = {{IPPROTO_DSTOPTS, Bytes(7 + 8 * 20, 0)}};
  dns.extensions[0].rest[0] = 20;
  ExpectPasses(dns, "a long header");
}

TEST_F(Boundary, IgnoresThePaddingOfShortFrames) {
  for (const Place& place : Places()) {
    Packet dns = GuardedPod::To(place.dns, IPPROTO_UDP);
    dns.port = 53;
    dns.padding = 18;
    ExpectPasses(dns, place.family);
  }
}

TEST_F(Boundary, DropsWhatComesFromAnInterfaceOfNoPod) {
  pod_->world().Run("ip link add other type veth peer name another");
  const int other = static_cast<int>(::if_nametoindex("other"));
  Packet packet = GuardedPod::To(Places()[0].mesh, IPPROTO_UDP);
  EXPECT_TRUE(pod_->LeaveOn(other, Frame(packet)).dropped());
  EXPECT_EQ(pod_->TakeTold(), Told{});
  ExpectPasses(packet, "on the pod's own interface");
  pod_->world().Run("ip link del other");
}

TEST_F(Boundary, TellsARefusalWithAllThatIsKnown) {
  std::vector<event> events;
  auto reader = datapath::EventReader::Open(pod_->kernel(), [&](const event& told) { events.push_back(told); });
  ASSERT_TRUE(reader) << reader.error().message;
  (*reader)->Read();
  events.clear();
  for (const Place& place : Places()) {
    EXPECT_TRUE(pod_->Leave(Frame(GuardedPod::To(place.outside, IPPROTO_UDP))).dropped());
    (*reader)->Read();
    ASSERT_EQ(events.size(), 1u) << place.family;
    EXPECT_EQ(events[0].cookie, pod_->cookie());
    EXPECT_EQ(events[0].slot, pod_->slot());
    EXPECT_EQ(events[0].verdict, EGRESS_DENY);
    EXPECT_EQ(events[0].reason, EGRESS_REASON_PROTOCOL);
    EXPECT_EQ(events[0].protocol, EGRESS_UDP);
    EXPECT_EQ(events[0].hook, EGRESS_HOOK_BOUNDARY);
    EXPECT_EQ(ntohs(events[0].source_port), 40000);
    EXPECT_EQ(ntohs(events[0].port), 443);
    EXPECT_EQ(std::memcmp(events[0].destination, place.outside.bytes.data(), 16), 0);
    EXPECT_EQ(std::memcmp(events[0].source, GuardedPod::Own(place.outside).bytes.data(), 16), 0);
    events.clear();
  }
}

}  // namespace
}  // namespace egress::test
