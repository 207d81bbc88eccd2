// https at the boundary: what leaves of a ClientHello, and what does not.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <time.h>

#include <algorithm>

#include "tests/bpf/tls_fixture.h"

namespace egress::test {
namespace {

TEST_F(BoundaryTls, PassesAHelloWithAListedNameInWhateverPieces) {
  for (const Place& place : Places()) {
    for (const char* name : {"shop.test", "SHOP.test.", "a.shop.test", "b.a.shop.test"}) {
      for (const std::size_t size : {1, 3, 60, 200, 2000}) {
        SCOPED_TRACE(std::string(place.family) + ", " + name + " in pieces of " + std::to_string(size));
        ASSERT_NO_FATAL_FAILURE(Connect(place));
        const Bytes stream = Records(TypicalHello(name).Message());
        EXPECT_EQ(SendInPieces(stream, size), stream.size());
        EXPECT_EQ(pod_->TakeTold(), kAllowed);
        EXPECT_EQ(pod_->rules().PolicyName(socket_->verdict.policy), "curl/shop");
        socket_->hello.answer = HELLO_TAKEN;
        EXPECT_EQ(SendInPieces(Bytes(500, 0xff), 100), 500u) << "what follows is not looked at";
        EXPECT_EQ(pod_->TakeTold(), Told{});
      }
    }
  }
}

// Of a hello in one packet nothing leaves; of one in pieces what comes before the end of the name.
TEST_F(BoundaryTls, LetsNothingOutFromTheEndOfAnUnlistedNameOn) {
  for (const Place& place : Places()) {
    for (const std::string name : {"evil.test", "test", "xshop.test", "shop.test.evil.test", "shop.tes"}) {
      const Bytes stream = Records(TypicalHello(name).Message());
      const auto found = std::search(stream.begin(), stream.end(), name.begin(), name.end());
      const std::size_t last = static_cast<std::size_t>(found - stream.begin()) + name.size() - 1;
      for (const std::size_t size : {1, 7, 50, 2000}) {
        SCOPED_TRACE(std::string(place.family) + ", " + name + " in pieces of " + std::to_string(size));
        ASSERT_NO_FATAL_FAILURE(Connect(place));
        EXPECT_EQ(SendInPieces(stream, size), last / size * size);
        EXPECT_TRUE(last_.passed());
        ExpectReset(last_.frame, ResetToPeer(refused_));
        EXPECT_EQ(pod_->TakeTold(), Denied(EGRESS_REASON_SNI_MISMATCH));
        EXPECT_EQ(socket_->verdict.kind, EGRESS_SOCKET_DENIED);
        EXPECT_EQ(SendInPieces(Text("more"), 4), 0u) << "nor anything after it";
        pod_->TakeTold();
      }
    }
  }
}

TEST_F(BoundaryTls, TellsWhyAHelloIsRefused) {
  ClientHello silent = TypicalHello("shop.test");
  silent.extensions.erase(silent.extensions.begin() + 1);
  ClientHello bare = silent;
  bare.extensions.clear();
  bare.has_extensions = false;
  ClientHello twice = TypicalHello("shop.test");
  twice.extensions[1].body = ServerNames({"shop.test", "shop.test"});
  struct Case {
    const char* name;
    Bytes stream;
    egress_reason reason;
  };
  const std::vector<Case> cases = {
      {"no server_name", Records(silent.Message()), EGRESS_REASON_NO_SNI},
      {"no extensions", Records(bare.Message()), EGRESS_REASON_NOT_TLS},
      {"two names", Records(twice.Message()), EGRESS_REASON_NO_SNI},
      {"a NUL in the name", Records(TypicalHello(std::string("shop.test\0x", 11)).Message()), EGRESS_REASON_NO_SNI},
      {"HTTP", Text("GET / HTTP/1.1\r\n\r\n"), EGRESS_REASON_NOT_TLS},
      {"an empty record", {22, 3, 1, 0, 0}, EGRESS_REASON_NOT_TLS}};
  for (const Place& place : Places()) {
    for (const Case& one : cases) {
      for (const std::size_t size : {1, 2000}) {
        SCOPED_TRACE(std::string(place.family) + ", " + one.name);
        ASSERT_NO_FATAL_FAILURE(Connect(place));
        EXPECT_LT(SendInPieces(one.stream, size), one.stream.size());
        ExpectReset(last_.frame, ResetToPeer(refused_));
        EXPECT_EQ(pod_->TakeTold(), Denied(one.reason));
      }
    }
  }
}

TEST_F(BoundaryTls, DropsWhatRunsAheadAndPassesWhatIsSentAgain) {
  const Bytes stream = Records(TypicalHello("shop.test").Message());
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    ASSERT_NO_FATAL_FAILURE(Connect(place));
    const std::uint32_t begin = socket_->sequence;
    const auto segment = [&](std::size_t from, std::size_t to) {
      Packet packet = socket_->Segment(
          {stream.begin() + static_cast<std::ptrdiff_t>(from), stream.begin() + static_cast<std::ptrdiff_t>(to)});
      packet.sequence = begin + static_cast<std::uint32_t>(from);
      return packet;
    };
    EXPECT_TRUE(socket_->Send(segment(100, 200)).dropped()) << "before the bytes in front of it";
    EXPECT_TRUE(socket_->Send(segment(0, 30)).passed());
    EXPECT_TRUE(socket_->Send(segment(31, 60)).dropped()) << "one byte is missing";
    EXPECT_TRUE(socket_->Send(segment(10, 30)).passed()) << "sent again";
    EXPECT_TRUE(socket_->Send(segment(0, 300)).passed()) << "sent again, with more";
    EXPECT_TRUE(socket_->Send(segment(299, stream.size())).passed());
    EXPECT_EQ(pod_->TakeTold(), kAllowed);
    EXPECT_TRUE(socket_->Send(segment(0, stream.size())).passed()) << "all of it again";
    EXPECT_EQ(pod_->TakeTold(), Told{});
    Packet other = segment(0, stream.size());
    other.payload[50] ^= 1;
    EXPECT_NE(socket_->Send(other).frame, Frame(other)) << "with another byte";
    EXPECT_EQ(pod_->TakeTold(), Denied(EGRESS_REASON_NOT_TLS));
  }
}

TEST_F(BoundaryTls, LetsNothingOutOfAConnectionWhoseBeginItHasNotSeen) {
  for (const Place& place : Places()) {
    socket_->Connect(EGRESS_SOCKET_TLS, place.outside);
    EXPECT_TRUE(socket_->Send(socket_->Segment(Records(TypicalHello("shop.test").Message()))).dropped());
    EXPECT_TRUE(socket_->Send(socket_->Segment({})).passed()) << "but acknowledgements";
  }
}

TEST_F(BoundaryTls, ReadsTheHelloInTheSyn) {
  for (const Place& place : Places()) {
    for (const bool listed : {true, false}) {
      socket_->Connect(EGRESS_SOCKET_TLS, place.outside);
      const Packet syn = socket_->Segment(Records(TypicalHello(listed ? "shop.test" : "evil.test").Message()), kSyn);
      EXPECT_EQ(socket_->Send(syn).frame == Frame(syn), listed);
      EXPECT_EQ(pod_->TakeTold(), listed ? kAllowed : Denied(EGRESS_REASON_SNI_MISMATCH));
    }
  }
}

TEST_F(BoundaryTls, DropsASegmentThatAnotherCpuIsReadingFor) {
  ASSERT_NO_FATAL_FAILURE(Connect(Places()[0]));
  const Packet packet = socket_->Segment(Records(TypicalHello("shop.test").Message()));
  socket_->hello.busy = 1;
  EXPECT_TRUE(socket_->Send(packet).dropped());
  socket_->hello.busy = 0;
  EXPECT_TRUE(socket_->Send(packet).passed()) << "TCP sends it again";
  EXPECT_EQ(pod_->TakeTold(), kAllowed);
}

// Urgent data is in this stream, but a server's TCP takes it out of the one that it reads.
TEST_F(BoundaryTls, RefusesUrgentDataInAHello) {
  for (const Place& place : Places()) {
    ASSERT_NO_FATAL_FAILURE(Connect(place));
    const Packet packet = socket_->Segment(Records(TypicalHello("shop.test").Message()), kUrg);
    EXPECT_NE(socket_->Send(packet).frame, Frame(packet));
    EXPECT_EQ(pod_->TakeTold(), Denied(EGRESS_REASON_NOT_TLS));
  }
}

TEST_F(BoundaryTls, BoundsAHelloInTimeFromItsFirstByte) {
  const Bytes stream = Records(TypicalHello("shop.test").Message());
  for (const auto& [seconds, passes] : {std::pair(EGRESS_HELLO_SECONDS - 2, true), {EGRESS_HELLO_SECONDS + 1, false}}) {
    SCOPED_TRACE(seconds);
    ASSERT_NO_FATAL_FAILURE(Connect(Places()[0]));
    EXPECT_EQ(SendInPieces({stream.begin(), stream.begin() + 10}, 10), 10u);
    ASSERT_NE(socket_->hello.started_ns, 0u);
    socket_->hello.started_ns -= static_cast<std::uint64_t>(seconds) * 1000000000;
    const Bytes rest(stream.begin() + 10, stream.end());
    EXPECT_EQ(SendInPieces(rest, 2000) == rest.size(), passes);
    EXPECT_EQ(pod_->TakeTold(), passes ? kAllowed : Denied(EGRESS_REASON_NOT_TLS));
  }
}

TEST_F(BoundaryTls, BoundsAHelloInBytes) {
  for (const auto& [bytes, passes] :
       {std::pair<std::size_t, bool>(EGRESS_HELLO_BYTES, true), {EGRESS_HELLO_BYTES + 1, false}}) {
    SCOPED_TRACE(bytes);
    ASSERT_NO_FATAL_FAILURE(Connect(Places()[0]));
    const Bytes message = TypicalHello("shop.test", bytes).Message();
    ASSERT_EQ(message.size(), bytes);
    const Bytes stream = Records(message);
    EXPECT_EQ(SendInPieces(stream, 1400) == stream.size(), passes);
    EXPECT_EQ(pod_->TakeTold(), passes ? kAllowed : Denied(EGRESS_REASON_NOT_TLS));
  }
}

// Headers of small records count too: what is kept of a hello is bounded.
TEST_F(BoundaryTls, BoundsWhatAHelloTakesOfTheStream) {
  const Bytes message = TypicalHello("shop.test", EGRESS_HELLO_BYTES).Message();
  for (const auto& [record_bytes, passes] : {std::pair<std::size_t, bool>(8, true), {4, false}, {1, false}}) {
    SCOPED_TRACE(record_bytes);
    ASSERT_NO_FATAL_FAILURE(Connect(Places()[0]));
    const Bytes stream = Records(message, record_bytes);
    ASSERT_EQ(stream.size() <= EGRESS_HELLO_STREAM, passes);
    const std::size_t sent = SendInPieces(stream, 1400);
    EXPECT_EQ(sent == stream.size(), passes);
    EXPECT_LE(sent, static_cast<std::size_t>(EGRESS_HELLO_STREAM));
    EXPECT_EQ(pod_->TakeTold(), passes ? kAllowed : Denied(EGRESS_REASON_NOT_TLS));
    if (!passes) {
      EXPECT_EQ(KeptChunks(), 0u) << "nothing is left of what was refused";
    }
    socket_->Forget();
  }
}

TEST_F(BoundaryTls, JudgesTheNameAgainWhenRulesChange) {
  const Bytes stream = Records(TypicalHello("a.shop.test").Message());
  for (const Place& place : Places()) {
    SCOPED_TRACE(place.family);
    ASSERT_TRUE(pod_->SetPolicies({HttpsRule("shop", {"*.shop.test"})}));
    ASSERT_NO_FATAL_FAILURE(Connect(place));
    EXPECT_EQ(SendInPieces(stream, 2000), stream.size());
    EXPECT_EQ(pod_->TakeTold(), kAllowed);
    socket_->hello.answer = HELLO_TAKEN;
    ASSERT_TRUE(pod_->SetPolicies({HttpsRule("other", {"a.shop.test"})}));
    EXPECT_EQ(SendInPieces(Text("data"), 4), 4u) << "another rule lists the name";
    EXPECT_EQ(pod_->rules().PolicyName(socket_->verdict.policy), "curl/other");
    EXPECT_EQ(pod_->TakeTold(), Told{});
    ASSERT_TRUE(pod_->SetPolicies({HttpsRule("other", {"b.shop.test"})}));
    EXPECT_EQ(SendInPieces(Text("data"), 4), 0u) << "no rule lists it";
    ExpectReset(last_.frame, ResetToPeer(refused_));
    EXPECT_EQ(socket_->verdict.reason, EGRESS_REASON_REVOKED);
    EXPECT_EQ(pod_->TakeTold().size(), 1u);
  }
}

// A change while the name is still to come: judged by the rules of then.
TEST_F(BoundaryTls, JudgesTheNameByTheRulesInForceWhenItIsComplete) {
  const Bytes stream = Records(TypicalHello("a.shop.test").Message());
  const Bytes head(stream.begin(), stream.begin() + 40), rest(stream.begin() + 40, stream.end());
  for (const bool listed : {true, false}) {
    ASSERT_NO_FATAL_FAILURE(Connect(Places()[0]));
    EXPECT_EQ(SendInPieces(head, 40), head.size());
    ASSERT_TRUE(pod_->SetPolicies({HttpsRule("shop", {listed ? "*.shop.test" : "shop.test"})}));
    EXPECT_EQ(SendInPieces(rest, 2000) == rest.size(), listed);
    EXPECT_EQ(pod_->TakeTold(), listed ? kAllowed : Denied(EGRESS_REASON_SNI_MISMATCH));
  }
}

TEST_F(BoundaryTls, RefusesNothingUnderAuditAndTellsIt) {
  datapath::PodMode audit;
  audit.audit = true;
  pod_->SetMode(audit);
  for (const Place& place : Places()) {
    ASSERT_NO_FATAL_FAILURE(Connect(place));
    const Bytes stream = Records(TypicalHello("evil.test").Message());
    EXPECT_EQ(SendInPieces(stream, 2000), stream.size());
    EXPECT_EQ(pod_->TakeTold(), (Told{{{EGRESS_HTTPS, EGRESS_AUDIT, EGRESS_REASON_SNI_MISMATCH}, 1}}));
    EXPECT_EQ(SendInPieces(Text("data"), 4), 4u);
    EXPECT_EQ(pod_->TakeTold(), Told{});
  }
}

}  // namespace
}  // namespace egress::test
