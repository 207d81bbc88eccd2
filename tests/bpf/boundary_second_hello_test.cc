// A HelloRetryRequest asks for a second ClientHello, in which no other name may stand.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/bpf/tls_fixture.h"

namespace egress::test {
namespace {

const Bytes kChangeCipherSpec = {20, 3, 3, 0, 1, 1};
const Bytes kFinished = {22, 3, 3, 0, 4, 16, 0, 0, 0};  // stands for any handshake record that is no ClientHello

Bytes EarlyData(std::size_t length) {
  Bytes record = {23, 3, 3, static_cast<std::uint8_t>(length >> 8), static_cast<std::uint8_t>(length)};
  record.resize(5 + length, 22);
  return record;
}

Bytes Join(std::initializer_list<Bytes> parts) {
  Bytes joined;
  for (const Bytes& part : parts) joined.insert(joined.end(), part.begin(), part.end());
  return joined;
}

class BoundarySecondHello : public BoundaryTls {
 protected:
  // A connection whose first hello has left.
  void Greet(const Place& place, hello_answer answer) {
    ASSERT_NO_FATAL_FAILURE(Connect(place));
    const Bytes first = Hello("shop.test");
    ASSERT_EQ(SendInPieces(first, 2000), first.size());
    ASSERT_EQ(pod_->TakeTold(), kAllowed);
    socket_->hello.answer = answer;
  }
  static Bytes Hello(const std::string& name) { return Records(TypicalHello(name).Message()); }
};

TEST_F(BoundarySecondHello, PassesWithTheNameOfTheFirstInWhateverPieces) {
  for (const Place& place : Places()) {
    for (const std::size_t size : {1, 7, 200, 4000}) {
      for (const Bytes& before :
           {Bytes(), kChangeCipherSpec, Join({kChangeCipherSpec, EarlyData(300), EarlyData(0)})}) {
        SCOPED_TRACE(std::string(place.family) + ", in pieces of " + std::to_string(size));
        ASSERT_NO_FATAL_FAILURE(Greet(place, HELLO_RETRY));
        const Bytes stream = Join({before, Hello("SHOP.test."), EarlyData(100), kFinished});
        EXPECT_EQ(SendInPieces(stream, size), stream.size()) << "what follows the second is not looked at";
        EXPECT_EQ(pod_->TakeTold(), Told{});
      }
    }
  }
}

TEST_F(BoundarySecondHello, LetsNothingOutFromTheEndOfAnotherNameOn) {
  for (const Place& place : Places()) {
    for (const std::string name : {"a.shop.test", "evil.test", "shop.tess", "shop.tes"}) {  // listed ones too
      for (const Bytes& before : {Bytes(), kChangeCipherSpec, Join({EarlyData(300), kChangeCipherSpec})}) {
        const Bytes stream = Join({before, Hello(name)});
        const auto found = std::search(stream.begin(), stream.end(), name.begin(), name.end());
        const std::size_t last = static_cast<std::size_t>(found - stream.begin()) + name.size() - 1;
        for (const std::size_t size : {1, 50, 4000}) {
          SCOPED_TRACE(std::string(place.family) + ", " + name + " in pieces of " + std::to_string(size));
          ASSERT_NO_FATAL_FAILURE(Greet(place, HELLO_RETRY));
          EXPECT_EQ(SendInPieces(stream, size), last / size * size);
          ExpectReset(last_.frame, ResetToPeer(refused_));
          EXPECT_EQ(pod_->TakeTold(), Denied(EGRESS_REASON_SNI_MISMATCH));
          EXPECT_EQ(socket_->verdict.kind, EGRESS_SOCKET_DENIED);
        }
      }
    }
  }
}

TEST_F(BoundarySecondHello, HasToBeAWellFormedOneWithAName) {
  ClientHello silent = TypicalHello("shop.test");
  silent.extensions.erase(silent.extensions.begin() + 1);
  const std::vector<std::pair<Bytes, egress_reason>> cases = {{kFinished, EGRESS_REASON_NOT_TLS},
                                                              {{22, 3, 3, 0, 0}, EGRESS_REASON_NOT_TLS},
                                                              {Records(silent.Message()), EGRESS_REASON_NO_SNI}};
  for (const auto& [stream, reason] : cases) {
    for (const std::size_t size : {1, 4000}) {
      ASSERT_NO_FATAL_FAILURE(Greet(Places()[0], HELLO_RETRY));
      EXPECT_LT(SendInPieces(stream, size), stream.size()) << testing::PrintToString(stream);
      EXPECT_EQ(pod_->TakeTold(), Denied(reason));
    }
  }
}

// It might be sent before the server has asked for it.
TEST_F(BoundarySecondHello, WaitsForTheServersAnswer) {
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    ASSERT_NO_FATAL_FAILURE(Greet(place, HELLO_UNANSWERED));
    const Bytes early = Join({kChangeCipherSpec, EarlyData(300), EarlyData(5)});
    EXPECT_EQ(SendInPieces(early, 100), early.size()) << "early data waits for nothing";
    const Packet other = socket_->Segment(Hello("evil.test"));
    EXPECT_TRUE(socket_->Send(other).dropped());
    EXPECT_EQ(pod_->TakeTold(), Told{});
    socket_->hello.answer = HELLO_RETRY;
    EXPECT_NE(socket_->Send(other).frame, Frame(other));
    EXPECT_EQ(pod_->TakeTold(), Denied(EGRESS_REASON_SNI_MISMATCH));

    ASSERT_NO_FATAL_FAILURE(Greet(place, HELLO_UNANSWERED));
    const Packet finished = socket_->Segment(kFinished);
    EXPECT_TRUE(socket_->Send(finished).dropped());
    socket_->hello.answer = HELLO_TAKEN;
    EXPECT_EQ(socket_->Send(finished).frame, Frame(finished)) << "the client's part of a TLS 1.2 handshake";
    EXPECT_EQ(pod_->TakeTold(), Told{});
  }
}

TEST_F(BoundarySecondHello, WaitsWithMoreEarlyDataThanIsKept) {
  ASSERT_NO_FATAL_FAILURE(Greet(Places()[0], HELLO_UNANSWERED));
  const Bytes record = EarlyData(16000);
  const Bytes stream = Join({record, record, record});
  const std::size_t sent = SendInPieces(stream, 1400);
  EXPECT_GT(sent, 30000u);
  EXPECT_LE(sent, static_cast<std::size_t>(EGRESS_HELLO_STREAM));
  EXPECT_TRUE(last_.dropped());
  socket_->hello.answer = HELLO_TAKEN;
  EXPECT_TRUE(socket_->Send(refused_).passed());
  EXPECT_EQ(pod_->TakeTold(), Told{});
  socket_->Forget();
}

// What is no TLS is nobody's second hello; but one may stand behind a record of a type that nobody knows.
TEST_F(BoundarySecondHello, IsFoundBehindRecordsOfAnyType) {
  for (const hello_answer answer : {HELLO_UNANSWERED, HELLO_RETRY}) {
    ASSERT_NO_FATAL_FAILURE(Greet(Places()[0], answer));
    EXPECT_EQ(SendInPieces(Text("what follows"), 5), 12u);
    ASSERT_NO_FATAL_FAILURE(Greet(Places()[0], answer));
    const Bytes unknown = {99, 9, 9, 0, 2, 22, 22};
    const Bytes other = Hello("evil.test");
    EXPECT_EQ(SendInPieces(unknown, 3), unknown.size());
    EXPECT_EQ(SendInPieces(other, 4000), 0u);
    EXPECT_EQ(pod_->TakeTold(), answer == HELLO_RETRY ? Denied(EGRESS_REASON_SNI_MISMATCH) : Told{});
  }
}

TEST_F(BoundarySecondHello, IsTheSameWhenItIsSentAgain) {
  ASSERT_NO_FATAL_FAILURE(Greet(Places()[0], HELLO_RETRY));
  Packet packet = socket_->Segment(Join({kChangeCipherSpec, Hello("shop.test")}));
  EXPECT_TRUE(socket_->Send(packet).passed());
  EXPECT_EQ(socket_->Send(packet).frame, Frame(packet));
  EXPECT_EQ(pod_->TakeTold(), Told{});
  packet.payload[100] ^= 1;
  EXPECT_NE(socket_->Send(packet).frame, Frame(packet));
  EXPECT_EQ(pod_->TakeTold(), Denied(EGRESS_REASON_NOT_TLS));
}

TEST_F(BoundarySecondHello, OfALiveConnectionFromBeforeIsNotAwaited) {
  ASSERT_NO_FATAL_FAILURE(Greet(Places()[0], HELLO_UNANSWERED));
  socket_->hello.version = 0;
  EXPECT_EQ(SendInPieces(kFinished, 4), kFinished.size());
}

}  // namespace
}  // namespace egress::test
