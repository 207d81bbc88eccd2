// Bodies in both directions, interim responses, and the ends of connections.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "tests/unit/proxy_world.h"

namespace egress::proxy {
namespace {

class Bodies : public testing::Test {
 protected:
  Bodies() {
    world_.SetPolicy("origin", 1);
    world_.Flip(1);
    client_ = world_.Connect();
  }

  // Sends a request and has its head arrive at the origin.
  std::string Ask(const std::string& request) {
    client_.Send(request);
    if (!origin_.valid()) origin_ = world_.Accept();
    return origin_.ReadHead();
  }

  World world_;
  Peer client_;
  Peer origin_;
};

constexpr std::size_t kLarge = 8U << 20;

std::string Pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + (i * 31 + i / 4096) % 26);
  return text;
}

TEST_F(Bodies, LargeOnesPassInBothDirections) {
  const std::string body = Pattern(kLarge);
  std::thread sender([&] {
    client_.Send("POST /post HTTP/1.1\r\nHost: origin.test\r\nContent-Length: " + std::to_string(kLarge) + "\r\n\r\n");
    client_.Send(body);
  });
  origin_ = world_.Accept();
  origin_.ReadHead();
  EXPECT_TRUE(origin_.Read(kLarge) == body);
  sender.join();
  std::thread answer([&] {
    origin_.Send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(kLarge) + "\r\n\r\n");
    origin_.Send(body);
  });
  client_.ReadHead();
  EXPECT_TRUE(client_.Read(kLarge) == body);
  answer.join();
}

TEST_F(Bodies, AClientThatDoesNotReadHoldsTheOriginBack) {
  Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
  const std::string block = Pattern(1U << 20);
  const timeval soon{0, 300'000};
  ::setsockopt(origin_.fd(), SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon);
  std::size_t taken = 0;
  while (taken < 200 * block.size() && origin_.Send(block)) taken += block.size();
  EXPECT_LT(taken, 100 * block.size()) << "what the proxy takes is bounded by socket buffers and one of its own";
}

TEST_F(Bodies, ChunkedRequestsAreTakenApartAndMadeAnew) {
  const std::string head = Ask("POST / HTTP/1.1\r\nHost: origin.test\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_NE(head.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  client_.Send("5;ext=1\r\nhello\r\n");
  EXPECT_EQ(origin_.Read(10), "5\r\nhello\r\n");
  client_.Send("0\r\nTrailer: x\r\n\r\n");
  EXPECT_EQ(origin_.Read(5), "0\r\n\r\n");
  origin_.Send("HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 204 No Content\r\n\r\n");
}

TEST_F(Bodies, ABadChunkEndsBothConnections) {
  Ask("POST / HTTP/1.1\r\nHost: origin.test\r\nTransfer-Encoding: chunked\r\n\r\n");
  client_.Send("5\r\nhello\r\n");
  EXPECT_EQ(origin_.ReadUntil("hello\r\n"), "5\r\nhello\r\n");
  client_.Send("-1\r\n");
  EXPECT_NE(origin_.ReadEnding(), Peer::Ending::kNone);
  EXPECT_TRUE(client_.ReadResponse().starts_with("HTTP/1.1 400 "));
  EXPECT_EQ(client_.ReadEnding(), Peer::Ending::kFin);
}

TEST_F(Bodies, ChunkedResponsesPassWithoutTrailers) {
  Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n");
  EXPECT_EQ(client_.ReadUntil("\r\n0\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
  Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 204 No Content\r\n\r\n") << "the connection goes on";
}

TEST_F(Bodies, LargeChunkedBodiesPass) {
  const std::string body = Pattern(kLarge);
  Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  std::thread answer([&] {
    origin_.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    constexpr std::size_t kChunk = 100'000;
    for (std::size_t at = 0; at < body.size(); at += kChunk) {
      const std::string piece = body.substr(at, kChunk);
      char size[kChunkHeaderBytes];
      origin_.Send(std::string(size, WriteChunkHeader(piece.size(), size)) + piece + "\r\n");
    }
    origin_.Send("0\r\n\r\n");
  });
  client_.ReadHead();
  std::string got;
  while (true) {
    const std::size_t size = std::stoul("0" + client_.ReadUntil("\r\n"), nullptr, 16);
    if (size == 0) break;
    got += client_.Read(size);
    ASSERT_EQ(client_.Read(2), "\r\n");
  }
  answer.join();
  EXPECT_TRUE(got == body);
}

TEST_F(Bodies, AnOldClientGetsAChunkedResponseUntilTheEnd) {
  const std::string head = Ask("GET / HTTP/1.0\r\nHost: origin.test\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_TRUE(head.starts_with("GET / HTTP/1.1\r\n")) << head;
  origin_.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
  EXPECT_EQ(client_.ReadUntil("hello"), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
  EXPECT_EQ(client_.ReadEnding(), Peer::Ending::kFin);
}

TEST_F(Bodies, AnOldClientIsToldThatItsConnectionGoesOn) {
  for (int i = 0; i < 2; ++i) {
    Ask("GET / HTTP/1.0\r\nHost: origin.test\r\nConnection: keep-alive\r\n\r\n");
    origin_.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    EXPECT_EQ(client_.ReadResponse(), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx");
  }
}

TEST_F(Bodies, AResponseUntilTheEndEndsTheConnection) {
  Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.0 200 OK\r\n\r\nhello");
  EXPECT_EQ(client_.ReadUntil("hello"), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
  origin_.Close();
  EXPECT_EQ(client_.ReadEnding(), Peer::Ending::kFin);
}

TEST_F(Bodies, AResponseUntilTheEndThatIsResetIsReset) {
  Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.0 200 OK\r\n\r\nhello");
  EXPECT_EQ(client_.ReadUntil("hello"), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
  origin_.Reset();
  EXPECT_EQ(client_.ReadEnding(), Peer::Ending::kReset) << "an end would say that all has come";
}

TEST_F(Bodies, AResponseThatBreaksOffIsSeenToBreakOff) {
  Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
  origin_.Close();
  EXPECT_EQ(client_.ReadUntil("hello"), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
  EXPECT_EQ(client_.ReadEnding(), Peer::Ending::kFin);
}

TEST_F(Bodies, TheBodyWaitsForContinue) {
  const std::string head =
      Ask("PUT / HTTP/1.1\r\nHost: origin.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
  EXPECT_NE(head.find("Expect: 100-continue\r\n"), std::string::npos);
  origin_.Send("HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 100 Continue\r\n\r\n");
  client_.Send("hello");
  EXPECT_EQ(origin_.Read(5), "hello");
  origin_.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

TEST_F(Bodies, AFinalAnswerInsteadOfContinueEndsTheConnection) {
  Ask("PUT / HTTP/1.1\r\nHost: origin.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
  origin_.Send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client_.ReadEnding(), Peer::Ending::kFin);
  EXPECT_NE(origin_.ReadEnding(), Peer::Ending::kNone);
}

TEST_F(Bodies, ADeniedRequestThatWaitsForContinueIsAnsweredAtOnce) {
  client_.Send("PUT / HTTP/1.1\r\nHost: evil.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
  const std::string answer = client_.ReadResponse();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 404 "));
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos) << "the body may come or not";
}

TEST_F(Bodies, AnAnswerToHeadHasNoBody) {
  Ask("HEAD / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
  client_.Send("HEAD / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
  EXPECT_TRUE(client_.ReadHead().starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(client_.Silent(50)) << "no body behind the 404 of a HEAD";
  Ask("HEAD / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n");
}

TEST_F(Bodies, InterimResponsesPassButNotToAnOldClient) {
  Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 204 No Content\r\n\r\n");
  Ask("GET / HTTP/1.0\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
}

TEST_F(Bodies, TheBodyOfADeniedRequestIsDroppedUpToABound) {
  client_.Send("POST / HTTP/1.1\r\nHost: evil.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
  EXPECT_TRUE(client_.ReadResponse().starts_with("HTTP/1.1 404 "));
  client_.Send("POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 60000\r\n\r\n" + Pattern(60000));
  EXPECT_TRUE(client_.ReadResponse().starts_with("HTTP/1.1 404 "));
  client_.Send("POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 600000\r\n\r\n");
  const std::string answer = client_.ReadResponse();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 404 "));
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
  EXPECT_EQ(client_.ReadEnding(), Peer::Ending::kFin);
  EXPECT_TRUE(world_.NoConnection(50));
}

TEST_F(Bodies, AnEndlessBodyOfADeniedRequestEndsTheConnection) {
  client_.Send("POST / HTTP/1.1\r\nHost: evil.test\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_TRUE(client_.ReadResponse().starts_with("HTTP/1.1 404 "));
  for (int i = 0; i < 10; ++i) client_.Send("4000\r\n" + Pattern(0x4000) + "\r\n");
  EXPECT_NE(client_.ReadEnding(), Peer::Ending::kNone);
}

TEST_F(Bodies, SmugglingOriginsGet502) {
  const char* const responses[] = {
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
      "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello",
      "220 mail.test ESMTP\r\n",
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
  };
  for (const char* response : responses) {
    Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
    origin_.Send(response);
    EXPECT_TRUE(client_.ReadResponse().starts_with("HTTP/1.1 502 ")) << response;
    EXPECT_NE(origin_.ReadEnding(), Peer::Ending::kNone);
    origin_ = Peer();
  }
}

TEST_F(Bodies, BytesBehindAResponseAnswerNothing) {
  Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
  EXPECT_EQ(client_.ReadResponse(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  EXPECT_NE(origin_.ReadEnding(), Peer::Ending::kNone) << "such a connection is not used again";
  origin_ = Peer();
  Ask("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
  origin_.Send("HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(client_.ReadHead(), "HTTP/1.1 204 No Content\r\n\r\n");
}

TEST_F(Bodies, AnEarlyAnswerPassesWhileTheBodyStillComes) {
  Ask("POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 100000\r\n\r\n");
  client_.Send(Pattern(1000));
  EXPECT_EQ(origin_.Read(1000), Pattern(1000));
  origin_.Send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
  EXPECT_EQ(client_.ReadResponse(),
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
  EXPECT_EQ(client_.ReadEnding(), Peer::Ending::kFin);
}

}  // namespace
}  // namespace egress::proxy
