// The strict parser of response heads, the chunked coding, and what is written anew.
#include <gtest/gtest.h>

#include <string>

#include "agent/proxy/chunked.h"
#include "agent/proxy/http_response.h"
#include "agent/proxy/http_rewrite.h"

namespace egress::proxy {
namespace {

struct Case {
  const char* name;
  std::string malformed;
  std::string twin;
};

std::string Ok(const std::string& lines) { return "HTTP/1.1 200 OK\r\n" + lines + "\r\n"; }

std::vector<Case> Cases() {
  return {
      {"LengthWithCoding", Ok("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), Ok("Content-Length: 3\r\n")},
      {"DifferingLengths", Ok("Content-Length: 3\r\nContent-Length: 4\r\n"), Ok("Content-Length: 4\r\n")},
      {"RepeatedLength", Ok("Content-Length: 3\r\nContent-Length: 3\r\n"), Ok("Content-Length: 3\r\n")},
      {"ListOfLengths", Ok("Content-Length: 3, 3\r\n"), Ok("Content-Length: 33\r\n")},
      {"SignedLength", Ok("Content-Length: +3\r\n"), Ok("Content-Length: 3\r\n")},
      {"HexLength", Ok("Content-Length: 0x3\r\n"), Ok("Content-Length: 03\r\n")},
      {"OverflowingLength", Ok("Content-Length: 18446744073709551619\r\n"),
       Ok("Content-Length: 999999999999999999\r\n")},
      {"LengthNamedHopByHop", Ok("Connection: Content-Length\r\nContent-Length: 3\r\n"),
       Ok("Connection: close\r\nContent-Length: 3\r\n")},
      {"TwoCodings", Ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
       Ok("Transfer-Encoding: Chunked\r\n")},
      {"ChunkedTwice", Ok("Transfer-Encoding: chunked, chunked\r\n"), Ok("Transfer-Encoding: chunked\r\n")},
      {"CodingWithVerticalTab",
       Ok("Transfer-Encoding: \x0b"
          "chunked\r\n"),
       Ok("Transfer-Encoding:\tchunked\r\n")},
      {"BareLineFeedInStatusLine", "HTTP/1.1 200 OK\nA: b\r\n\r\n", Ok("A: b\r\n")},
      {"BareLineFeedAtTheEnd", "HTTP/1.1 200 OK\r\nA: b\r\n\n", Ok("A: b\r\n")},
      {"BareCarriageReturn", Ok("A: b\rC: d\r\n"), Ok("A: b C: d\r\n")},
      {"CarriageReturnInReason", "HTTP/1.1 200 O\rK\r\n\r\n", "HTTP/1.1 200 O K\r\n\r\n"},
      {"NulInValue", Ok(std::string("A: b\0c\r\n", 8)), Ok("A: b c\r\n")},
      {"ControlInValue", Ok("A: b\x01\r\n"), Ok("A: b\t\r\n")},
      {"LineWithoutColon", Ok("Nonsense\r\n"), Ok("Nonsense:\r\n")},
      {"LeadingBlankInFirstHeader", "HTTP/1.1 200 OK\r\n A: b\r\n\r\n", Ok("A: b\r\n")},
      {"LeadingLineEnd", "\r\n" + Ok(""), Ok("")},
      {"FoldedWithTab", Ok("A: b\r\n\tc\r\n"), Ok("A: b\tc\r\n")},
      {"CodingNotChunked", Ok("Transfer-Encoding: gzip, chunked\r\n"), Ok("Transfer-Encoding: chunked\r\n")},
      {"CodingInHttp10", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n"},
      {"BareLineFeed", Ok("A: b\nC: d\r\n"), Ok("A: b\r\nC: d\r\n")},
      {"FoldedLine", Ok("A: b\r\n c\r\n"), Ok("A: b c\r\n")},
      {"BlankBeforeColon", Ok("A : b\r\n"), Ok("A: b\r\n")},
      {"NulInReason", std::string("HTTP/1.1 200 O\0\r\n\r\n", 19), "HTTP/1.1 200 O\r\n\r\n"},
      {"TwoDigits", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 200\r\n\r\n"},
      {"FourDigits", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 200 \r\n\r\n"},
      {"CodeBelow100", "HTTP/1.1 099 OK\r\n\r\n", "HTTP/1.1 599 OK\r\n\r\n"},
      {"Version2", "HTTP/2 200\r\n\r\n", "HTTP/1.1 200\r\n\r\n"},
      {"IcyServer", "ICY 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n"},
  };
}

class ResponseHeads : public testing::TestWithParam<Case> {};

TEST_P(ResponseHeads, AreRefusedAndTheirTwinsPass) {
  ResponseHead head;
  EXPECT_EQ(ParseResponse(GetParam().malformed, {}, &head), ParseStatus::kMalformed);
  EXPECT_STRNE(head.problem, "");
  EXPECT_EQ(ParseResponse(GetParam().twin, {}, &head), ParseStatus::kComplete) << head.problem;
}

std::string CaseName(const testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(All, ResponseHeads, testing::ValuesIn(Cases()), CaseName);

TEST(ResponseHead, EveryPrefixOfAValidHeadIsIncomplete) {
  const std::string text = "HTTP/1.1 206 Partial Content\r\nContent-Length: 12\r\nSet-Cookie: a=b\r\n\r\n";
  ResponseHead head;
  for (std::size_t size = 0; size < text.size(); ++size) {
    ASSERT_EQ(ParseResponse(std::string_view(text).substr(0, size), {}, &head), ParseStatus::kIncomplete) << size;
  }
  EXPECT_EQ(ParseResponse(text, {}, &head), ParseStatus::kComplete);
}

TEST(ResponseHead, TheBodyDependsOnRequestAndCode) {
  const struct {
    std::string text;
    ResponseContext context;
    BodyKind body;
  } cases[] = {
      {Ok("Content-Length: 3\r\n"), {}, BodyKind::kLength},
      {Ok("Content-Length: 0\r\n"), {}, BodyKind::kNone},
      {Ok("Transfer-Encoding: chunked\r\n"), {}, BodyKind::kChunked},
      {Ok(""), {}, BodyKind::kUntilClose},
      {Ok("Content-Length: 3\r\n"), {.to_head = true}, BodyKind::kNone},
      {Ok("Content-Length: 3\r\n"), {.to_connect = true}, BodyKind::kNone},
      {"HTTP/1.1 204 No Content\r\n\r\n", {}, BodyKind::kNone},
      {"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", {}, BodyKind::kNone},
      {"HTTP/1.1 100 Continue\r\n\r\n", {}, BodyKind::kNone},
      {"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n", {.to_connect = true}, BodyKind::kLength},
  };
  for (const auto& test : cases) {
    ResponseHead head;
    ASSERT_EQ(ParseResponse(test.text, test.context, &head), ParseStatus::kComplete) << test.text;
    EXPECT_EQ(head.body, test.body) << test.text;
  }
}

// All data of a chunked body that is fed in pieces of `step` bytes; nullopt where it is refused.
std::optional<std::string> Decode(std::string_view input, std::size_t step, std::size_t* rest = nullptr) {
  ChunkDecoder decoder;
  std::string data;
  while (true) {
    const ChunkDecoder::Piece piece = decoder.Next(input.substr(0, step));
    data += piece.data;
    input.remove_prefix(piece.consumed);
    if (piece.status == ChunkDecoder::Status::kBad) return std::nullopt;
    if (piece.status == ChunkDecoder::Status::kDone) break;
    if (input.empty() && piece.status == ChunkDecoder::Status::kMore) return data + "...";
  }
  if (rest != nullptr) *rest = input.size();
  return data;
}

TEST(Chunked, IsReadInPiecesOfAnySize) {
  const std::string_view body = "5\r\nhello\r\n00A;name=\"v\"\r\n, chunked!\r\n0\r\nTrailer: x\r\n\r\nGET";
  for (std::size_t step = 1; step <= body.size(); ++step) {
    std::size_t rest = 0;
    EXPECT_EQ(Decode(body, step, &rest), "hello, chunked!") << step;
    EXPECT_EQ(rest, 3U) << "what follows is not touched";
  }
}

TEST(Chunked, WhatTwoParsersCouldReadDifferentlyIsRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"+5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
      {"-5\r\nhello\r\n0\r\n\r\n", "05\r\nhello\r\n0\r\n\r\n"},
      {"0x5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
      {"5 \r\nhello\r\n0\r\n\r\n", "5;\r\nhello\r\n0\r\n\r\n"},
      {" 5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n00\r\n\r\n"},
      {"5\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
      {"5\r\nhello\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
      {"5\r\nhelloo\r\n0\r\n\r\n", "6\r\nhelloo\r\n0\r\n\r\n"},
      {"\r\n0\r\n\r\n", "0\r\n\r\n"},
      {";a\r\n0\r\n\r\n", "0;a\r\n\r\n"},
      {"10000000000000000\r\n", "5\r\nhello\r\n0\r\n\r\n"},
      {"fffffffffffffffff\r\n", "5\r\nhello\r\n0\r\n\r\n"},
      {"5;\x01\r\nhello\r\n0\r\n\r\n", "5;\t\r\nhello\r\n0\r\n\r\n"},
      {"0\r\nno colon\r\n\r\n", "0\r\nno: colon\r\n\r\n"},
      {"0\r\n folded: x\r\n\r\n", "0\r\nfolded: x\r\n\r\n"},
      {"0\r\na: b\n\r\n", "0\r\na: b\r\n\r\n"},
      {"0\r\n\n", "0\r\n\r\n"},
  };
  for (const auto& [bad, twin] : cases) {
    EXPECT_EQ(Decode(bad, 1000), std::nullopt) << bad;
    const auto decoded = Decode(twin, 1000);
    ASSERT_TRUE(decoded) << twin;
    EXPECT_FALSE(decoded->ends_with("...")) << twin;
  }
}

TEST(Chunked, OverheadIsBounded) {
  EXPECT_EQ(Decode("5;" + std::string(300, 'a') + "\r\nhello\r\n0\r\n\r\n", 1000), std::nullopt);
  EXPECT_EQ(Decode("5;" + std::string(200, 'a') + "\r\nhello\r\n0\r\n\r\n", 1000), "hello");
  EXPECT_EQ(Decode("0\r\na: " + std::string(9000, 'a') + "\r\n\r\n", 1000), std::nullopt);
  EXPECT_EQ(Decode("0\r\na: " + std::string(7000, 'a') + "\r\n\r\n", 1000), "");
}

TEST(Chunked, HeadersAreWritten) {
  char text[kChunkHeaderBytes];
  const auto written = [&text](std::uint64_t size) { return std::string(text, WriteChunkHeader(size, text)); };
  EXPECT_EQ(written(5), "5\r\n");
  EXPECT_EQ(written(0x1a0), "1a0\r\n");
  EXPECT_EQ(written(UINT64_MAX), "ffffffffffffffff\r\n");
}

std::string Rewritten(const std::string& text) {
  RequestHead head;
  EXPECT_EQ(ParseRequest(text, 80, &head), ParseStatus::kComplete) << head.problem;
  BlockPool pool;
  BufferAccount account{.pool = &pool, .max_large = 8};
  Buffer out(&account);
  EXPECT_TRUE(WriteRequest(head, head.websocket, &out));
  return std::string(out.data());
}

TEST(Rewrite, KeepsOrderAndCaseAndDropsWhatIsHopByHop) {
  EXPECT_EQ(Rewritten("GET /x?y HTTP/1.0\r\nuser-AGENT:  curl \r\nhost: A.test\r\nConnection: keep-alive, X-Hop\r\n"
                      "Keep-Alive: 5\r\nX-Hop: 1\r\nTE: trailers\r\nTrailer: x\r\nProxy-Authorization: secret\r\n"
                      "Upgrade: h2c\r\nHTTP2-Settings: a\r\nX-Last:\r\n\r\n"),
            "GET /x?y HTTP/1.1\r\nuser-AGENT: curl\r\nhost: A.test\r\nHTTP2-Settings: a\r\nX-Last: \r\n\r\n");
}

std::string RewrittenResponse(const std::string& text, Persistence persistence, bool chunked) {
  ResponseHead head;
  EXPECT_EQ(ParseResponse(text, {}, &head), ParseStatus::kComplete) << head.problem;
  BlockPool pool;
  BufferAccount account{.pool = &pool, .max_large = 8};
  Buffer out(&account);
  EXPECT_TRUE(WriteResponse(head, persistence, chunked, &out));
  return std::string(out.data());
}

TEST(Rewrite, OfAResponseToo) {
  EXPECT_EQ(RewrittenResponse("HTTP/1.0 200 Fine\r\nx-A:  b \r\nConnection: X-Hop, close\r\nX-Hop: 1\r\n"
                              "Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nTrailer: x\r\nUpgrade: h2c\r\n"
                              "Content-Length: 3\r\n\r\n",
                              Persistence::kPlain, false),
            "HTTP/1.1 200 Fine\r\nx-A: b\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(
      RewrittenResponse("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\nA: b\r\n\r\n", Persistence::kClose, false),
      "HTTP/1.1 204 No Content\r\nA: b\r\nConnection: close\r\n\r\n")
      << "a length that no body follows";
  EXPECT_EQ(RewrittenResponse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Persistence::kClose, false),
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
      << "for a client that knows no chunks";
}

TEST(Rewrite, PassesTheUpgradeOfAWebSocketOnly) {
  EXPECT_EQ(Rewritten("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n"),
            "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
  EXPECT_EQ(Rewritten("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"),
            "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n");
}

TEST(Rewrite, MakesAnAbsoluteTargetAPath) {
  EXPECT_EQ(Rewritten("GET http://a.test/b?c HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            "GET /b?c HTTP/1.1\r\nHost: a.test\r\n\r\n");
  EXPECT_EQ(Rewritten("GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n"), "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
}

}  // namespace
}  // namespace egress::proxy
