// Segments of sockets: what passes by their verdict, and when they are judged again.

#include <gtest/gtest.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include <random>

#include "tests/bpf/boundary_fixture.h"
#include "tests/bpf/pod_capture.h"
#include "tests/bpf/pod_socket.h"
#include "tests/bpf/reset_check.h"

namespace egress::test {
namespace {

class BoundarySocket : public Boundary {
 protected:
  void SetUp() override {
    Boundary::SetUp();
    ASSERT_TRUE(pod_->SetPolicies({}));
    auto made = PodSocket::Make(*pod_);
    ASSERT_TRUE(made) << made.error().message;
    socket_ = *std::move(made);
  }

  static policy::PolicyPtr TcpRule(const std::string& name, const Place& place) {
    policy::EffectivePolicy rule;
    rule.id = {"curl", name};
    rule.ports = {{443, policy::Protocol::kTcp}};
    rule.cidrs = {MakePrefix(place.outside, 128)};
    return std::make_shared<const policy::EffectivePolicy>(rule);
  }

  std::unique_ptr<PodSocket> socket_;
};

TEST_F(BoundarySocket, PassesSegmentsOfAllowedAndInboundConnections) {
  for (const Place& place : Places()) {
    for (const auto kind : {EGRESS_SOCKET_ALLOWED, EGRESS_SOCKET_INBOUND}) {
      SCOPED_TRACE(place.family);
      socket_->Connect(kind, place.outside);
      for (const Packet& packet :
           {socket_->Segment({}, kSyn), socket_->Segment(Text("data")), socket_->Segment({}, kFin)}) {
        const Outcome outcome = socket_->Send(packet);
        EXPECT_TRUE(outcome.passed()) << outcome.action;
        EXPECT_EQ(outcome.frame, Frame(packet));
      }
      EXPECT_EQ(pod_->TakeTold(), Told{});
    }
  }
}

TEST_F(BoundarySocket, PassesNoSegmentOffTheJudgedTuple) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    const auto expect_dropped = [&](auto change, egress_reason reason, egress_protocol label = EGRESS_TCP) {
      socket_->Connect(EGRESS_SOCKET_ALLOWED, place.outside);
      Packet packet = socket_->Segment(Text("data"));
      EXPECT_TRUE(socket_->Send(packet).passed()) << "the twin";
      change(&packet);
      EXPECT_TRUE(socket_->Send(packet).dropped());
      EXPECT_EQ(pod_->TakeTold(), (Told{{{label, EGRESS_DENY, reason}, 1}}));
    };
    const auto no_socket = EGRESS_REASON_NO_SOCKET;
    expect_dropped([](Packet* packet) { ++packet->destination.bytes[15]; }, no_socket);
    expect_dropped([](Packet* packet) { ++packet->port; }, no_socket);
    expect_dropped([](Packet* packet) { ++packet->source_port; }, no_socket);
    expect_dropped([](Packet* packet) { ++packet->source.bytes[15]; }, EGRESS_REASON_SPOOFED_SOURCE);
    expect_dropped([](Packet* packet) { ++packet->from[5]; }, EGRESS_REASON_SPOOFED_SOURCE, EGRESS_OTHER);
    expect_dropped([](Packet* packet) { packet->tcp_words = 4; }, EGRESS_REASON_MALFORMED_PACKET);
    if (place.outside.IsV4()) {
      expect_dropped([](Packet* packet) { packet->fragment = 0x2000; }, EGRESS_REASON_FRAGMENT);
      expect_dropped([](Packet* packet) { packet->options = {1, 1, 1, 0}; }, EGRESS_REASON_MALFORMED_PACKET);
    } else {
      expect_dropped([](Packet* packet) { packet->extensions = {Routing()}; }, EGRESS_REASON_MALFORMED_PACKET,
                     EGRESS_OTHER);
    }
  }
}

TEST_F(BoundarySocket, TakesTheVerdictOfAnotherPodForNone) {
  for (const Place& place : Places()) {
    socket_->Connect(EGRESS_SOCKET_ALLOWED, place.outside);
    socket_->verdict.cookie = 1;
    socket_->verdict.slot = 3000;
    EXPECT_FALSE(socket_->Send(socket_->Segment(Text("data"))).passed());
    EXPECT_EQ(pod_->TakeTold(), (Told{{{EGRESS_TCP, EGRESS_DENY, EGRESS_REASON_NO_SOCKET}, 1}}));
  }
}

TEST_F(BoundarySocket, ResetsRefusedAndRedirectedConnections) {
  PodCapture capture(*pod_);
  for (const Place& place : Places()) {
    for (const auto kind : {EGRESS_SOCKET_DENIED, EGRESS_SOCKET_REDIRECTED, EGRESS_SOCKET_DOWNSTREAM,
                            EGRESS_SOCKET_DATAGRAM, EGRESS_SOCKET_PROXY_HTTP}) {
      SCOPED_TRACE(std::string(place.family) + ", kind " + std::to_string(kind));
      socket_->Connect(kind, place.outside);
      socket_->verdict.once_allowed = 0;
      const Packet data = socket_->Segment(Text("data"));
      const Outcome outcome = socket_->Send(data);
      EXPECT_TRUE(outcome.answered()) << "the peer knows nothing of it";
      ExpectReset(outcome.frame, ResetToPod(data));
      socket_->verdict.once_allowed = 1;
      const Outcome both = socket_->Send(data);
      EXPECT_TRUE(both.passed());
      ExpectReset(both.frame, ResetToPeer(data));
      const auto arrived = capture.NextTcp();
      ASSERT_TRUE(arrived) << "the pod is told too";
      ExpectReset(*arrived, ResetToPod(data));
      const Packet fin = socket_->Segment({}, kFin);
      EXPECT_EQ(socket_->Send(fin).frame, Frame(fin)) << "the end of a connection that was cut may leave";
    }
  }
}

TEST_F(BoundarySocket, CutsAConnectionWhoseRuleIsGoneAtBothEnds) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    ASSERT_TRUE(pod_->SetPolicies({TcpRule("one", place), TcpRule("two", place)}));
    socket_->Connect(EGRESS_SOCKET_ALLOWED, place.outside);
    ASSERT_TRUE(pod_->SetPolicies({TcpRule("two", place)}));
    EXPECT_TRUE(socket_->Send(socket_->Segment(Text("data"))).passed()) << "another rule covers it";
    EXPECT_EQ(socket_->verdict.generation, pod_->generation());
    EXPECT_EQ(pod_->rules().PolicyName(socket_->verdict.policy), "curl/two");
    EXPECT_EQ(pod_->TakeTold(), Told{});
    ASSERT_TRUE(pod_->SetPolicies({}));
    const Packet data = socket_->Segment(Text("data"));
    const Outcome outcome = socket_->Send(data);
    EXPECT_TRUE(outcome.passed());
    ExpectReset(outcome.frame, ResetToPeer(data));
    EXPECT_EQ(pod_->TakeTold(), (Told{{{EGRESS_TCP, EGRESS_DENY, EGRESS_REASON_REVOKED}, 1}}));
    EXPECT_EQ(socket_->verdict.kind, EGRESS_SOCKET_DENIED);
    ASSERT_TRUE(pod_->SetPolicies({TcpRule("two", place)}));
    EXPECT_NE(socket_->Send(data).frame, Frame(data)) << "what was cut stays cut";
    pod_->TakeTold();
  }
}

TEST_F(BoundarySocket, LeavesAConnectionThatCameInToItself) {
  for (const Place& place : Places()) {
    ASSERT_TRUE(pod_->SetPolicies({TcpRule("one", place)}));
    socket_->Connect(EGRESS_SOCKET_INBOUND, place.outside);
    ASSERT_TRUE(pod_->SetPolicies({}));
    EXPECT_TRUE(socket_->Send(socket_->Segment(Text("data"))).passed());
    EXPECT_EQ(pod_->TakeTold(), Told{});
  }
}

// The short way for established connections is there for speed alone.
TEST_F(BoundarySocket, GoesTheShortWayOnlyWhereTheLongOnePassesToo) {
  std::mt19937 random(5);
  int passed = 0, refused = 0;
  for (int round = 0; round < 30000; ++round) {
    const Place& place = Places()[round % 2];
    socket_->Connect(random() % 4 == 0 ? EGRESS_SOCKET_INBOUND : EGRESS_SOCKET_ALLOWED, place.outside);
    Bytes frame = Frame(socket_->Segment(Bytes(random() % 30, 7)));
    for (unsigned edits = random() % 3; edits > 0; --edits) {
      const std::size_t at = random() % std::min<std::size_t>(frame.size(), place.outside.IsV4() ? 54 : 74);
      frame[at] = random() % 2 == 0 ? static_cast<std::uint8_t>(random())
                                    : frame[at] ^ static_cast<std::uint8_t>(1u << random() % 8);
    }
    if (random() % 20 == 0) frame.resize(std::max<std::size_t>(34 + 20, random() % frame.size()));
    const Outcome short_way = socket_->Send(frame);
    socket_->Connect(static_cast<egress_socket_kind>(socket_->verdict.kind), place.outside);
    const Outcome long_way = socket_->SendTheLongWay(frame);
    ASSERT_EQ(short_way.passed(), long_way.passed()) << "round " << round << ", " << testing::PrintToString(frame);
    ++(short_way.passed() ? passed : refused);
  }
  EXPECT_GT(passed, 10000);
  EXPECT_GT(refused, 5000);
  pod_->TakeTold();
}

}  // namespace
}  // namespace egress::test
