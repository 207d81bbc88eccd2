// The strict parser of request heads: what is refused, each case beside the twin that passes.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "agent/proxy/http_request.h"

namespace egress::proxy {
namespace {

constexpr std::uint16_t kPort = 80;

struct Case {
  const char* name;
  std::string malformed;
  std::string twin;
};

std::string Get(const std::string& lines) { return "GET / HTTP/1.1\r\nHost: a.test\r\n" + lines + "\r\n"; }
std::string Post(const std::string& lines) { return "POST / HTTP/1.1\r\nHost: a.test\r\n" + lines + "\r\n"; }
std::string Path(const std::string& path) { return "GET " + path + " HTTP/1.1\r\nHost: a.test\r\n\r\n"; }
std::string Host(const std::string& host) { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"; }

std::vector<Case> FramingCases() {
  return {
      {"LengthWithCoding", Post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), Post("Content-Length: 3\r\n")},
      {"CodingWithLength", Post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
       Post("Transfer-Encoding: chunked\r\n")},
      {"DifferingLengths", Post("Content-Length: 3\r\nContent-Length: 4\r\n"), Post("Content-Length: 4\r\n")},
      {"RepeatedLength", Post("Content-Length: 3\r\nContent-Length: 3\r\n"), Post("Content-Length: 3\r\n")},
      {"ListOfLengths", Post("Content-Length: 3, 3\r\n"), Post("Content-Length: 33\r\n")},
      {"SignedLength", Post("Content-Length: +3\r\n"), Post("Content-Length: 3\r\n")},
      {"NegativeLength", Post("Content-Length: -3\r\n"), Post("Content-Length: 3\r\n")},
      {"HexLength", Post("Content-Length: 0x3\r\n"), Post("Content-Length: 03\r\n")},
      {"EmptyLength", Post("Content-Length: \r\n"), Post("Content-Length: 0\r\n")},
      {"OverflowingLength", Post("Content-Length: 18446744073709551619\r\n"),
       Post("Content-Length: 999999999999999999\r\n")},
      {"LengthWithBlank", Post("Content-Length: 1 2\r\n"), Post("Content-Length: \t12 \r\n")},
      {"CodingNotChunked", Post("Transfer-Encoding: identity\r\n"), Post("Transfer-Encoding: Chunked\r\n")},
      {"CodingThenChunked", Post("Transfer-Encoding: gzip, chunked\r\n"), Post("Transfer-Encoding: chunked\r\n")},
      {"ChunkedTwice", Post("Transfer-Encoding: chunked, chunked\r\n"), Post("Transfer-Encoding: chunked\r\n")},
      {"TwoCodings", Post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
       Post("Transfer-Encoding: chunked\r\n")},
      {"CodingWithVerticalTab",
       Post("Transfer-Encoding: \x0b"
            "chunked\r\n"),
       Post("Transfer-Encoding:\tchunked\r\n")},
      {"CodingInHttp10", "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
       "POST / HTTP/1.0\r\nHost: a.test\r\nContent-Length: 1\r\n\r\n"},
      {"ConnectWithBody", "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 1\r\n\r\n",
       "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 0\r\n\r\n"},
  };
}

std::vector<Case> LineCases() {
  return {
      {"BareLineFeedInRequestLine", "GET / HTTP/1.1\nHost: a.test\r\n\r\n", Get("")},
      {"BareLineFeedInHeader", Get("A: b\nC: d\r\n"), Get("A: b\r\nC: d\r\n")},
      {"BareLineFeedAtTheEnd", "GET / HTTP/1.1\r\nHost: a.test\r\n\n", Get("")},
      {"BareCarriageReturnInValue", Get("A: b\rC: d\r\n"), Get("A: b C: d\r\n")},
      {"CarriageReturnTwice", Get("A: b\r\r\n"), Get("A: b\r\n")},
      {"NulInValue", Get(std::string("A: b\0c\r\n", 8)), Get("A: b c\r\n")},
      {"NulInName", Get(std::string("A\0: b\r\n", 7)), Get("A: b\r\n")},
      {"ControlInValue", Get("A: b\x01\r\n"), Get("A: b\t\r\n")},
      {"DeleteInValue", Get("A: b\x7f\r\n"), Get("A: b\xc3\xa9\r\n")},
      {"FoldedLine", Get("A: b\r\n c\r\n"), Get("A: b c\r\n")},
      {"FoldedWithTab", Get("A: b\r\n\tc\r\n"), Get("A: b\tc\r\n")},
      {"BlankBeforeColon", Get("A : b\r\n"), Get("A: b\r\n")},
      {"TabBeforeColon", Get("Content-Length\t: 3\r\n"), Get("Content-Length: 3\r\n")},
      {"LeadingBlankInFirstHeader", "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", Get("")},
      {"LineWithoutColon", Get("Nonsense\r\n"), Get("Nonsense:\r\n")},
      {"EmptyName", Get(": b\r\n"), Get("x: b\r\n")},
      {"NameWithBracket", Get("A[]: b\r\n"), Get("A_-.!: b\r\n")},
      {"LeadingLineEnd", "\r\n" + Get(""), Get("")},
      {"LeadingBlank", " " + Get(""), Get("")},
      {"TwoBlanks", "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n", Get("")},
      {"TabInRequestLine", "GET\t/ HTTP/1.1\r\nHost: a.test\r\n\r\n", Get("")},
      {"BlankBehindVersion", "GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n", Get("")},
      {"NoVersion", "GET /\r\nHost: a.test\r\n\r\n", Get("")},
      {"Version2", "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n", "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"},
      {"Version12", "GET / HTTP/1.2\r\nHost: a.test\r\n\r\n", Get("")},
      {"LowerCaseVersion", "GET / http/1.1\r\nHost: a.test\r\n\r\n", Get("")},
      {"Http2Preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n"},
      {"TlsHello", std::string("\x16\x03\x01\x02\x00\x01", 6), Get("")},
      {"MailGreeting", "EHLO a.test\r\n", Get("")},
      {"MethodWithParenthesis", "GE(T / HTTP/1.1\r\nHost: a.test\r\n\r\n", "GE-T / HTTP/1.1\r\nHost: a.test\r\n\r\n"},
  };
}

std::vector<Case> TargetCases() {
  return {
      {"NoHost", "GET / HTTP/1.1\r\nAccept: a\r\n\r\n", Get("Accept: a\r\n")},
      {"NoHostInHttp10", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"},
      {"TwoHosts", Get("Host: b.test\r\n"), Get("X-Host: b.test\r\n")},
      {"TwoEqualHosts", Get("host: a.test\r\n"), Get("")},
      {"EmptyHost", Host(""), Host("a")},
      {"HostWithUserinfo", Host("b.test@a.test"), Host("a.test")},
      {"HostWithBlank", Host("a.test b.test"), Host("a.test")},
      {"HostWithPath", Host("a.test/b"), Host("a.test")},
      {"HostWithBadPort", Host("a.test:x"), Host("a.test:80")},
      {"HostWithHugePort", Host("a.test:65536"), Host("a.test:65535")},
      {"HostWithOpenBracket", Host("[::1"), Host("[::1]")},
      {"HostList", Host("a.test, b.test"), Host("a.test")},
      {"AbsoluteOtherHost", "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
       "GET http://A.test:80/x HTTP/1.1\r\nHost: a.test\r\n\r\n"},
      {"AbsoluteOtherPort", "GET http://a.test:81/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
       "GET http://a.test HTTP/1.1\r\nHost: a.test:80\r\n\r\n"},
      {"AbsoluteHttps", Path("https://a.test/"), Path("http://a.test/")},
      {"AbsoluteUserinfo", Path("http://u@a.test/"), Path("HTTP://a.test/")},
      {"RelativeTarget", Path("get"), Path("/get")},
      {"ConnectOtherHost", "CONNECT b.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
       "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"},
      {"AsteriskOfGet", Path("*"), "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n"},
      {"DotSegment", Path("/a/./b"), Path("/a/.b/b")},
      {"DotDotSegment", Path("/a/../b"), Path("/a/..b/b")},
      {"DotDotAtTheEnd", Path("/a/.."), Path("/a/...")},
      {"DotDotBeforeQuery", Path("/a/..?x"), Path("/a?/../x")},
      {"DotDotWithParameter", Path("/a/..;x/b"), Path("/a/b;..x/b")},
      {"EncodedSlash", Path("/a%2fb"), Path("/a?%2fb")},
      {"EncodedSlashUpper", Path("/a%2Fb"), Path("/a%20b")},
      {"EncodedBackslash", Path("/a%5cb"), Path("/a%5bb")},
      {"EncodedDot", Path("/%2e/b"), Path("/%2d/b")},
      {"EncodedNul", Path("/a%00"), Path("/a?%00")},
      {"BrokenEncoding", Path("/a%2"), Path("/a%20")},
      {"EncodingWithoutDigits", Path("/a%zz"), Path("/a%41")},
      {"Backslash", Path("/a\\b"), Path("/a|b")},
      {"Fragment", Path("/a#b"), Path("/a%23b")},
      {"NonAsciiPath", Path("/\xc3\xa9"), Path("/%c3%a9")},
      {"ConnectionNamesHost", Get("Connection: host\r\n"), Get("Connection: x\r\nX: 1\r\n")},
      {"ConnectionNamesLength", Post("Connection: Content-Length\r\nContent-Length: 1\r\n"),
       Post("Connection: close\r\nContent-Length: 1\r\n")},
      {"ConnectionNotTokens", Get("Connection: a b\r\n"), Get("Connection: a, b\r\n")},
  };
}

class RequestHeads : public testing::TestWithParam<Case> {};

TEST_P(RequestHeads, AreRefusedAndTheirTwinsPass) {
  RequestHead head;
  EXPECT_EQ(ParseRequest(GetParam().malformed, kPort, &head), ParseStatus::kMalformed) << GetParam().malformed;
  EXPECT_STRNE(head.problem, "");
  EXPECT_EQ(ParseRequest(GetParam().twin, kPort, &head), ParseStatus::kComplete) << GetParam().twin << head.problem;
  EXPECT_EQ(head.size, GetParam().twin.size());
}

std::string CaseName(const testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Framing, RequestHeads, testing::ValuesIn(FramingCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Lines, RequestHeads, testing::ValuesIn(LineCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Targets, RequestHeads, testing::ValuesIn(TargetCases()), CaseName);

// A copy of `text` that ends at a page which may not be read.
class Guarded {
 public:
  explicit Guarded(std::string_view text) : page_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {
    size_ = (text.size() / page_ + 2) * page_;
    memory_ = static_cast<char*>(::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::mprotect(memory_ + size_ - page_, page_, PROT_NONE);
    char* begin = memory_ + size_ - page_ - text.size();
    std::memcpy(begin, text.data(), text.size());
    view_ = {begin, text.size()};
  }
  ~Guarded() { ::munmap(memory_, size_); }
  std::string_view view() const { return view_; }

 private:
  std::size_t page_;
  std::size_t size_;
  char* memory_;
  std::string_view view_;
};

constexpr std::string_view kFull =
    "POST /a/b?c=%20&d HTTP/1.1\r\nHost: a.test:80\r\nX-Empty:\r\nConnection: keep-alive, x-y\r\nX-Y: 1\r\n"
    "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";

TEST(RequestHead, EveryPrefixOfAValidHeadIsIncomplete) {
  RequestHead head;
  for (std::size_t size = 0; size < kFull.size(); ++size) {
    const Guarded prefix(kFull.substr(0, size));
    ASSERT_EQ(ParseRequest(prefix.view(), kPort, &head), ParseStatus::kIncomplete) << size << ": " << head.problem;
  }
  const Guarded whole(kFull);
  EXPECT_EQ(ParseRequest(whole.view(), kPort, &head), ParseStatus::kComplete);
}

TEST(RequestHead, SaysWhatWasSent) {
  RequestHead head;
  const std::string text = std::string(kFull) + "body";
  ASSERT_EQ(ParseRequest(text, kPort, &head), ParseStatus::kComplete);
  EXPECT_EQ(head.size, kFull.size());
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.target, "/a/b?c=%20&d");
  EXPECT_EQ(head.authority, "a.test:80");
  EXPECT_EQ(head.body, BodyKind::kChunked);
  EXPECT_TRUE(head.keep_alive);
  EXPECT_TRUE(head.fields.expect_continue);
  EXPECT_TRUE(head.fields.items[3].nominated) << "X-Y is named in Connection";
  EXPECT_FALSE(head.fields.items[1].nominated);
}

TEST(RequestHead, KeepsTheConnectionByVersionAndWord) {
  const std::pair<const char*, bool> cases[] = {
      {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
      {"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: y, close\r\n\r\n", false},
      {"GET / HTTP/1.0\r\nHost: a\r\n\r\n", false},
      {"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", true},
  };
  for (const auto& [text, keeps] : cases) {
    RequestHead head;
    ASSERT_EQ(ParseRequest(text, kPort, &head), ParseStatus::kComplete) << text;
    EXPECT_EQ(head.keep_alive, keeps) << text;
  }
}

TEST(RequestHead, OnlyAWebSocketMayUpgrade) {
  const std::pair<std::string, bool> cases[] = {
      {Get("Connection: Upgrade\r\nUpgrade: WebSocket\r\n"), true},
      {Get("Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n"), true},
      {Get("Upgrade: websocket\r\n"), false},
      {Get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\n"), false},
      {Get("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"), false},
      {Get("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n"), false},
      {Get("Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n"), false},
      {Post("Connection: Upgrade\r\nUpgrade: websocket\r\n"), false},
  };
  for (const auto& [text, websocket] : cases) {
    RequestHead head;
    ASSERT_EQ(ParseRequest(text, kPort, &head), ParseStatus::kComplete) << text;
    EXPECT_EQ(head.websocket, websocket) << text;
  }
}

TEST(RequestHead, IsBoundedInBytes) {
  RequestHead head;
  const std::string fits = Get("X: " + std::string(kMaxHeadBytes - Get("X: \r\n").size(), 'a') + "\r\n");
  ASSERT_EQ(fits.size(), kMaxHeadBytes);
  EXPECT_EQ(ParseRequest(fits, kPort, &head), ParseStatus::kComplete);
  const std::string over = Get("X: " + std::string(kMaxHeadBytes - Get("X: \r\n").size() + 1, 'a') + "\r\n");
  EXPECT_EQ(ParseRequest(over, kPort, &head), ParseStatus::kTooLarge);
  EXPECT_EQ(ParseRequest("GET /" + std::string(kMaxHeadBytes, 'a'), kPort, &head), ParseStatus::kTooLarge);
}

TEST(RequestHead, IsBoundedInHeaders) {
  std::string lines;
  for (std::size_t i = 1; i < kMaxHeaders; ++i) lines += "X: y\r\n";
  RequestHead head;
  EXPECT_EQ(ParseRequest(Get(lines), kPort, &head), ParseStatus::kComplete);
  EXPECT_EQ(ParseRequest(Get(lines + "X: y\r\n"), kPort, &head), ParseStatus::kTooLarge);
}

}  // namespace
}  // namespace egress::proxy
