// The RSTs that the boundary makes out of what it refuses (bpf/reset.h), byte by byte.

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <random>

#include "tests/bpf/boundary_fixture.h"
#include "tests/bpf/reset_check.h"

namespace egress::test {
namespace {

using BoundaryReset = Boundary;

TEST_F(BoundaryReset, AnswersTheRefusedSegmentOnItsTuple) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    for (const std::size_t payload : {0, 1, 2, 700, 1400}) {
      for (const std::uint8_t flags : {kSyn + 0, kAck + 0, kAck | kPsh, kFin | kAck, kSyn | kAck, 0}) {
        Packet packet = GuardedPod::To(place.outside, IPPROTO_TCP);
        packet.flags = flags;
        packet.sequence = 0xfffffff0;
        packet.acknowledged = 0x01020304;
        packet.payload = Bytes(payload, 0xab);
        const Outcome outcome = pod_->Leave(Frame(packet));
        ASSERT_TRUE(outcome.answered()) << outcome.action;
        ExpectReset(outcome.frame, ResetToPod(packet));
      }
    }
  }
}

TEST_F(BoundaryReset, IsValidWhateverTheNumbersAre) {
  std::mt19937 random(11);
  for (int round = 0; round < 20000; ++round) {
    Packet packet = GuardedPod::To(Places()[round % 2].outside, IPPROTO_TCP);
    const int changed = packet.destination.IsV4() ? 3 : 10;
    for (int i = 0; i < changed; ++i) packet.destination.bytes[15 - i] = static_cast<std::uint8_t>(random());
    packet.source_port = static_cast<std::uint16_t>(random());
    packet.port = static_cast<std::uint16_t>(random());
    packet.sequence = random();
    packet.acknowledged = random();
    packet.flags = random() % 2 == 0 ? kSyn : kAck;
    packet.payload = Bytes(random() % 40, 1);
    // Numbers at which sums run over, or come to nothing.
    if (random() % 4 == 0) packet.sequence = 0u - random() % 3;
    if (random() % 4 == 0) packet.acknowledged = 0u - random() % 3;
    const Outcome outcome = pod_->Leave(Frame(packet));
    ASSERT_TRUE(outcome.answered()) << packet.destination.ToString();
    ExpectReset(outcome.frame, ResetToPod(packet));
    if (HasFailure()) FAIL() << "round " << round << ", to " << packet.destination.ToString();
  }
}

// The bytes of padding are no payload; options of TCP are no payload either.
TEST_F(BoundaryReset, CountsThePayloadAndNothingElse) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    Packet packet = GuardedPod::To(place.outside, IPPROTO_TCP);
    packet.flags = kAck;
    packet.sequence = 1;
    packet.payload = Text("abc");
    packet.padding = 9;
    ExpectReset(pod_->Leave(Frame(packet)).frame, ResetToPod(packet));
    packet.tcp_words = 10;  // 20 bytes of options, which the first bytes of `payload` are
    packet.payload = Bytes(20, 1);
    Packet bare = packet;
    bare.payload.clear();
    ExpectReset(pod_->Leave(Frame(packet)).frame, ResetToPod(bare));
  }
}

TEST_F(BoundaryReset, AnswersNoReset) {
  for (const Place& place : Places()) {
    Packet packet = GuardedPod::To(place.outside, IPPROTO_TCP);
    packet.flags = kRst | kAck;
    EXPECT_TRUE(pod_->Leave(Frame(packet)).dropped());
    packet.flags = kAck;
    EXPECT_TRUE(pod_->Leave(Frame(packet)).answered()) << "its twin";
  }
}

}  // namespace
}  // namespace egress::test
