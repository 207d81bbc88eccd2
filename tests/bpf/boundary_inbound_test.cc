// What comes in to the pod may be answered, and nothing else.

#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/bpf/boundary_fixture.h"

namespace egress::test {
namespace {

Packet Reply(const Packet& packet) {
  Packet reply = packet;
  std::swap(reply.to, reply.from);
  std::swap(reply.source, reply.destination);
  std::swap(reply.source_port, reply.port);
  return reply;
}

// Each test has a peer of its own: records last.
Address Peer(const Place& place, std::uint8_t number) {
  Address peer = place.outside;
  peer.bytes[15] = number;
  return peer;
}

using BoundaryInbound = Boundary;

const Told kNoDatagram{{{EGRESS_UDP, EGRESS_DENY, EGRESS_REASON_PROTOCOL}, 1}};
const Told kNoSocket{{{EGRESS_TCP, EGRESS_DENY, EGRESS_REASON_NO_SOCKET}, 1}};

TEST_F(BoundaryInbound, LetsADatagramBeAnsweredOnItsVeryFlow) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    const Packet answer = GuardedPod::To(Peer(place, 101), IPPROTO_UDP);
    EXPECT_TRUE(pod_->Leave(Frame(answer)).dropped());
    EXPECT_EQ(pod_->TakeTold(), kNoDatagram);
    EXPECT_TRUE(pod_->Enter(Frame(Reply(answer))).passed());
    ExpectPasses(answer, "the answer");
    const auto expect_refused = [&](auto change) {
      Packet other = answer;
      change(&other);
      EXPECT_TRUE(pod_->Leave(Frame(other)).dropped());
      EXPECT_EQ(pod_->TakeTold(), kNoDatagram);
    };
    expect_refused([](Packet* packet) { ++packet->port; });
    expect_refused([](Packet* packet) { ++packet->source_port; });
    expect_refused([](Packet* packet) { ++packet->destination.bytes[15]; });
    Packet tcp = answer;
    tcp.protocol = IPPROTO_TCP;
    tcp.flags = kAck;
    EXPECT_FALSE(pod_->Leave(Frame(tcp)).passed());
    EXPECT_EQ(pod_->TakeTold(), kNoSocket);
  }
}

TEST_F(BoundaryInbound, LetsAnEchoBeAnsweredByItsIdentifier) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    const bool ip4 = place.outside.IsV4();
    Packet answer = GuardedPod::To(Peer(place, 102), ip4 ? std::uint8_t{IPPROTO_ICMP} : std::uint8_t{IPPROTO_ICMPV6});
    answer.icmp_type = ip4 ? 0 : 129;
    answer.source_port = answer.port = 4242;
    Packet question = Reply(answer);
    question.icmp_type = ip4 ? 8 : 128;
    const Told refused{{{EGRESS_ICMP, EGRESS_DENY, EGRESS_REASON_PROTOCOL}, 1}};
    EXPECT_TRUE(pod_->Leave(Frame(answer)).dropped());
    EXPECT_EQ(pod_->TakeTold(), refused);
    EXPECT_TRUE(pod_->Enter(Frame(question)).passed());
    ExpectPasses(answer, "the answer");
    Packet another = answer;
    another.source_port = 4243;
    EXPECT_TRUE(pod_->Leave(Frame(another)).dropped());
    EXPECT_EQ(pod_->TakeTold(), refused);
    Packet request = answer;
    request.icmp_type = ip4 ? 8 : 128;
    EXPECT_TRUE(pod_->Leave(Frame(request)).dropped()) << "a request is no answer";
    EXPECT_EQ(pod_->TakeTold(), refused);
  }
}

// An answer to what the pod began opens nothing: else a DNS query would open the way back to its server.
TEST_F(BoundaryInbound, OpensNothingByAnswersToWhatThePodBegan) {
  auto open = PlainNetwork();
  open.dns_servers.push_back(Peer(Places()[0], 103));
  open.dns_servers.push_back(Peer(Places()[1], 103));
  ASSERT_TRUE(pod_->SetNetwork(open));
  for (const Place& place : Places()) {
    Packet question = GuardedPod::To(Peer(place, 103), IPPROTO_UDP);
    question.port = 53;
    ExpectPasses(question, "the question");
    EXPECT_TRUE(pod_->Enter(Frame(Reply(question))).passed());
  }
  ASSERT_TRUE(pod_->SetNetwork(PlainNetwork()));
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    Packet question = GuardedPod::To(Peer(place, 103), IPPROTO_UDP);
    question.port = 53;
    EXPECT_TRUE(pod_->Leave(Frame(question)).dropped());
    EXPECT_EQ(pod_->TakeTold(), kNoDatagram);
    question.source_port = 40001;
    EXPECT_TRUE(pod_->Enter(Frame(Reply(question))).passed());
    ExpectPasses(question, "its twin, which came in first");
  }
}

TEST_F(BoundaryInbound, LetsTheSynThatCameInBeAnsweredAndNoOther) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    Packet answer = GuardedPod::To(Peer(place, 104), IPPROTO_TCP);
    answer.flags = kSyn | kAck;
    answer.sequence = 5000;
    answer.acknowledged = 9001;
    EXPECT_TRUE(pod_->Leave(Frame(answer)).answered());
    EXPECT_EQ(pod_->TakeTold(), kNoSocket);
    Packet syn = Reply(answer);
    syn.flags = kSyn;
    syn.sequence = 9000;
    EXPECT_TRUE(pod_->Enter(Frame(syn)).passed());
    ExpectPasses(answer, "SYN-ACK");
    const auto expect_refused = [&](const char* what, auto change) {
      Packet other = answer;
      change(&other);
      EXPECT_FALSE(pod_->Leave(Frame(other)).passed()) << what;
      EXPECT_EQ(pod_->TakeTold(), kNoSocket) << what;
    };
    expect_refused("to another SYN", [](Packet* packet) { ++packet->acknowledged; });
    expect_refused("with data", [](Packet* packet) { packet->payload = Text("data"); });
    expect_refused("a SYN of its own", [](Packet* packet) { packet->flags = kSyn; });
    expect_refused("from another port", [](Packet* packet) { ++packet->source_port; });
    expect_refused("data without a socket", [](Packet* packet) {
      packet->flags = kAck;
      packet->payload = Text("data");
    });
    answer.flags = kRst | kAck;
    ExpectPasses(answer, "RST of a closed port");
    answer.flags = kAck;
    ExpectPasses(answer, "ACK of a handshake");
  }
}

TEST_F(BoundaryInbound, TakesOnlyFirstPacketsForThingsThatCameIn) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    Packet answer = GuardedPod::To(Peer(place, 105), IPPROTO_TCP);
    answer.flags = kAck;
    for (const std::uint8_t flags : {kSyn | kAck, kAck + 0, kRst + 0, kSyn | kRst, kFin | kAck}) {
      Packet segment = Reply(answer);
      segment.flags = flags;
      EXPECT_TRUE(pod_->Enter(Frame(segment)).passed());
      EXPECT_FALSE(pod_->Leave(Frame(answer)).passed()) << "flags " << int{flags};
      EXPECT_EQ(pod_->TakeTold(), kNoSocket);
    }
  }
}

// ICMP errors about what came in, to where it came from: nothing that only looks like one.
TEST_F(BoundaryInbound, LetsThePodsKernelSayWhatItOwes) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    const bool ip4 = place.outside.IsV4();
    const Packet came = Reply(GuardedPod::To(Peer(place, 108), IPPROTO_UDP));
    const auto error_about = [&](const Packet& packet, std::uint8_t protocol, std::size_t cut = 0) {
      Packet error = GuardedPod::To(Peer(place, 108), protocol);
      error.icmp_type = ip4 ? 3 : 1;
      const Bytes quoted = Frame(packet);
      error.payload.assign(quoted.begin() + kEthernetBytes, quoted.end() - static_cast<std::ptrdiff_t>(cut));
      error.padding = cut;  // what lies behind the packet says nothing
      return error;
    };
    const std::uint8_t icmp = ip4 ? std::uint8_t{IPPROTO_ICMP} : std::uint8_t{IPPROTO_ICMPV6};
    const std::uint8_t other_icmp = ip4 ? std::uint8_t{IPPROTO_ICMPV6} : std::uint8_t{IPPROTO_ICMP};
    EXPECT_TRUE(pod_->Leave(Frame(error_about(came, icmp))).dropped()) << "nothing has come in";
    EXPECT_TRUE(pod_->Enter(Frame(came)).passed());
    pod_->TakeTold();
    ExpectPasses(error_about(came, icmp), "port unreachable");
    Packet another = came;
    ++another.port;
    EXPECT_TRUE(pod_->Leave(Frame(error_about(another, icmp))).dropped());
    EXPECT_TRUE(pod_->Leave(Frame(error_about(came, icmp, 5))).dropped()) << "the ports are cut off";
    EXPECT_TRUE(pod_->Leave(Frame(error_about(came, other_icmp))).dropped()) << "ICMP of the other family";
    pod_->TakeTold();
  }
}

// A frame that seems to come from the pod's own address was sent by the pod, or is a forgery.
TEST_F(BoundaryInbound, RecordsNothingFromThePodsOwnAddress) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    Packet packet = GuardedPod::To(Peer(place, 106), IPPROTO_UDP);
    packet.destination = GuardedPod::Own(place.outside);
    EXPECT_TRUE(pod_->Enter(Frame(packet)).passed());
    EXPECT_TRUE(pod_->Leave(Frame(Reply(packet))).dropped());
    pod_->TakeTold();
  }
}

TEST_F(BoundaryInbound, KeepsOthersFromThePodsProxy) {
  ASSERT_TRUE(pod_->SetProxyPorts(15001, 15002));
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    for (const Address& from : {place.outside, place.mesh}) {
      Packet syn = Reply(GuardedPod::To(from, IPPROTO_TCP));
      syn.flags = kSyn;
      syn.port = place.outside.IsV4() ? 15001 : 15002;
      EXPECT_TRUE(pod_->Enter(Frame(syn)).dropped());
      syn.port = place.outside.IsV4() ? 15002 : 15001;
      EXPECT_TRUE(pod_->Enter(Frame(syn)).passed()) << "another port";
    }
  }
  ASSERT_TRUE(pod_->SetProxyPorts(0, 0));
}

TEST_F(BoundaryInbound, LetsEverythingElseInAsItIs) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    for (const std::uint8_t protocol : {IPPROTO_UDP, IPPROTO_TCP, IPPROTO_SCTP, IPPROTO_GRE}) {
      const Bytes frame = Frame(Reply(GuardedPod::To(place.outside, protocol)));
      for (std::size_t length = 16 + (place.outside.IsV4() ? 20 : 40); length <= frame.size(); ++length) {
        const Bytes cut(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(length));
        const Outcome outcome = pod_->Enter(cut);
        EXPECT_TRUE(outcome.passed());
        EXPECT_EQ(outcome.frame, cut);
      }
    }
  }
  EXPECT_EQ(pod_->TakeTold(), Told{});
}

// One pod has room for EGRESS_MAX_INBOUND records; a flood pushes out the oldest, and more than that is kept of none.
TEST_F(BoundaryInbound, KeepsABoundedNumberOfRecords) {
  const Place& place = Places()[0];
  for (int i = 0; i < 4 * EGRESS_MAX_INBOUND; ++i) {
    Packet packet = Reply(GuardedPod::To(Peer(place, 107), IPPROTO_UDP));
    packet.source_port = static_cast<std::uint16_t>(1024 + i);
    ASSERT_TRUE(pod_->Enter(Frame(packet)).passed());
  }
  int answered = 0;
  for (int i = 0; i < 4 * EGRESS_MAX_INBOUND; ++i) {
    Packet packet = GuardedPod::To(Peer(place, 107), IPPROTO_UDP);
    packet.port = static_cast<std::uint16_t>(1024 + i);
    answered += pod_->Leave(Frame(packet)).passed() ? 1 : 0;
  }
  EXPECT_GT(answered, EGRESS_MAX_INBOUND / 4);
  EXPECT_LE(answered, EGRESS_MAX_INBOUND);
  pod_->TakeTold();
}

}  // namespace
}  // namespace egress::test
