// The parser of ClientHellos (bpf/hello.h) in user space: every shape, however it is cut into records and frames.

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "tests/support/client_hello.h"
#include "tests/support/hello_parser.h"

namespace egress::test {
namespace {

constexpr unsigned kNoBound = 1u << 30;
const std::string kName = "www.example.com";

enum class End { kName, kNoName, kRefused, kIncomplete };

End EndOf(const HelloParser& parser) {
  if (parser.refused()) return End::kRefused;
  if (!parser.complete()) return End::kIncomplete;
  return parser.named() ? End::kName : End::kNoName;
}

HelloParser Parse(const Bytes& stream, const std::function<std::size_t()>& next_chunk) {
  HelloParser parser;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t length = std::min(next_chunk(), stream.size() - at);
    EXPECT_TRUE(parser.Feed(std::span(stream).subspan(at, length), kNoBound));
    at += length;
  }
  return parser;
}

HelloParser ParseWhole(const Bytes& stream) {
  return Parse(stream, [&] { return stream.size(); });
}

// The parser says the same in whatever pieces the stream comes, and so does the reference.
HelloParser ParseAnyhow(const Bytes& stream) {
  const HelloParser whole = ParseWhole(stream);
  std::mt19937 random(static_cast<unsigned>(stream.size()));
  const std::function<std::size_t()> ways[] = {[] { return 1; },
                                               [] { return 2; },
                                               [] { return 3; },
                                               [] { return 5; },
                                               [] { return 7; },
                                               [] { return 100; },
                                               [] { return 536; },
                                               [] { return 1460; },
                                               [&] { return 1 + random() % 20; },
                                               [&] { return 1 + random() % 600; }};
  for (const auto& way : ways) {
    const HelloParser cut = Parse(stream, way);
    EXPECT_EQ(EndOf(cut), EndOf(whole));
    EXPECT_EQ(cut.state().names, whole.state().names) << "the reason that is told";
    if (whole.refused()) continue;
    EXPECT_EQ(std::memcmp(&cut.state(), &whole.state(), sizeof cut.state()), 0) << "another state";
  }
  const auto reference = NameOf(stream);
  EXPECT_EQ(reference.has_value(), EndOf(whole) == End::kName);
  if (reference && whole.complete()) {
    EXPECT_EQ(*reference, whole.name());
  }
  return whole;
}

struct Shape {
  const char* name;
  Bytes stream;
  End end = End::kRefused;
  std::string says = "";
};

Bytes With(const std::function<void(ClientHello*)>& change, std::size_t record_bytes = 16384) {
  ClientHello hello = TypicalHello(kName);
  change(&hello);
  return Records(hello.Message(), record_bytes);
}

Bytes WithNames(const Bytes& body) {
  return With([&](ClientHello* hello) { hello->extensions[1].body = body; });
}

Bytes WithName(const std::string& name) { return WithNames(ServerNames({name})); }

void ExpectAll(const std::vector<Shape>& shapes) {
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(shape.name);
    const HelloParser parser = ParseAnyhow(shape.stream);
    EXPECT_EQ(static_cast<int>(EndOf(parser)), static_cast<int>(shape.end));
    if (shape.end != End::kName) continue;
    EXPECT_EQ(parser.name(), shape.says.empty() ? kName : shape.says);
  }
}

TEST(Hello, ReadsTheNameFromHellosOfAllSizesAndRecords) {
  std::vector<Shape> shapes;
  for (const std::size_t bytes : {0, 252, 508, 1200, 2048, 9000, 16380, 19996}) {
    for (const std::size_t record : {1, 2, 5, 64, 500, 4096, 16384}) {
      shapes.push_back({"sizes", Records(TypicalHello(kName, bytes).Message(), record), End::kName});
    }
  }
  ExpectAll(shapes);
}

TEST(Hello, ReadsTheNameWhereverItStands) {
  const auto move = [](std::size_t to) {
    return With([to](ClientHello* hello) { std::swap(hello->extensions[1], hello->extensions[to]); });
  };
  ExpectAll({{"first", move(0), End::kName},
             {"behind the key share", move(6), End::kName},
             {"last", move(7), End::kName},
             {"alone", With([](ClientHello* hello) { hello->extensions = {ServerName(kName)}; }), End::kName},
             {"behind a post-quantum key share", With([](ClientHello* hello) {
                hello->extensions.insert(hello->extensions.begin(), {0x0033, Bytes(1216 + 38, 7), {}});
              }),
              End::kName},
             {"without a session", With([](ClientHello* hello) { hello->session.clear(); }), End::kName},
             {"with 200 cipher suites", With([](ClientHello* hello) { hello->ciphers = Bytes(400, 1); }), End::kName}});
}

TEST(Hello, TakesNamesOfPlainCharactersInLowerCase) {
  const std::string longest =
      std::string(63, 'a') + "." + std::string(63, 'b') + "." + std::string(63, 'c') + "." + std::string(63, 'd');
  ASSERT_EQ(longest.size(), 255u);
  ExpectAll({{"upper case", WithName("WWW.Example.COM"), End::kName, kName},
             {"a trailing dot", WithName("www.example.com."), End::kName, kName},
             {"one character", WithName("a"), End::kName, "a"},
             {"all that may stand in a name", WithName("x-0_9.z--"), End::kName, "x-0_9.z--"},
             {"255 characters", WithName(longest), End::kName, longest},
             {"255 with the dot", WithName(longest.substr(1) + "."), End::kName, longest.substr(1)},
             {"an address", WithName("192.0.2.1"), End::kName, "192.0.2.1"}});
}

TEST(Hello, RefusesNamesThatAreNone) {
  std::vector<Shape> shapes = {{"empty", WithName("")},
                               {"a dot alone", WithName(".")},
                               {"two dots alone", WithName("..")},
                               {"a leading dot", WithName(".example.com")},
                               {"an empty label", WithName("www..example.com")},
                               {"two trailing dots", WithName("www.example.com..")},
                               {"256 characters", WithName(std::string(256, 'a'))},
                               {"300 characters", WithName(std::string(300, 'a'))},
                               {"a NUL", WithName(std::string("www.example.com\0.evil.test", 26))},
                               {"a NUL at the end", WithName(std::string("www.example.com\0", 16))}};
  for (int c = 0; c < 256; ++c) {
    const bool plain = std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
    if (c < 128 && plain) continue;
    for (const std::size_t at : {0u, 7u, 14u}) {
      std::string name = kName;
      name[at] = static_cast<char>(c);
      shapes.push_back({"a character that may not stand in a name", WithName(name)});
    }
  }
  ExpectAll(shapes);
}

TEST(Hello, RefusesAServerNameExtensionThatIsNotOneHostName) {
  const Bytes one = ServerNames({kName});
  Bytes longer = one, shorter = one, trailing = one;
  ++longer[1];
  --shorter[1];
  trailing.push_back(0);
  Bytes name_longer = one, name_shorter = one;
  ++name_longer[4];
  --name_shorter[4];
  ExpectAll({{"two names", WithNames(ServerNames({kName, "evil.test"}))},
             {"another type of name", WithNames(ServerNames({kName}, 1))},
             {"no names", WithNames({0, 0})},
             {"empty", WithNames({})},
             {"a list that is too long", WithNames(longer)},
             {"a list that is too short", WithNames(shorter)},
             {"bytes behind the list", WithNames(trailing)},
             {"a name that is too long", WithNames(name_longer)},
             {"a name that is too short", WithNames(name_shorter)},
             {"the extension twice", With([](ClientHello* hello) { hello->extensions.push_back(ServerName(kName)); })},
             {"and another name the second time", With([](ClientHello* hello) {
                hello->extensions.insert(hello->extensions.begin(), ServerName("b.test"));
              })}});
}

TEST(Hello, EndsWithoutANameWhereThereIsNone) {
  ExpectAll({{"no server_name",
              With([](ClientHello* hello) { hello->extensions.erase(hello->extensions.begin() + 1); }), End::kNoName},
             {"no extension", With([](ClientHello* hello) { hello->extensions.clear(); }), End::kNoName},
             {"not even the field", With([](ClientHello* hello) {
                hello->extensions.clear();
                hello->has_extensions = false;
              }),
              End::kRefused}});
}

TEST(Hello, RefusesTablesThatDoNotAddUp) {
  using Hello = ClientHello;
  const auto shape = [](const char* name, const std::function<void(Hello*)>& change, End end = End::kRefused) {
    return Shape{name, With(change), end};
  };
  ExpectAll({
      shape("a session of 33", [](Hello* hello) { hello->session.push_back(1); }),
      shape("a session beyond the message", [](Hello* hello) { hello->session_length = 32, hello->session.clear(); }),
      shape("no cipher suites", [](Hello* hello) { hello->ciphers.clear(); }),
      shape("an odd number of bytes of them", [](Hello* hello) { hello->ciphers.push_back(1); }),
      shape("cipher suites beyond the message", [](Hello* hello) { hello->ciphers_length = 60000; }),
      shape("no compression", [](Hello* hello) { hello->compression.clear(); }),
      shape("compression beyond the message",
            [](Hello* hello) { hello->compression_length = 255, hello->extensions.resize(1); }),
      shape("extensions shorter than said", [](Hello* hello) { hello->extensions_length = 1000; }),
      shape("extensions longer than said", [](Hello* hello) { hello->extensions_length = 400; }),
      shape("an extension beyond the list", [](Hello* hello) { hello->extensions.back().length = 60000; }),
      shape("one byte behind the extensions", [](Hello* hello) { hello->trailer = {0}; }),
      shape("one byte of another extension",
            [](Hello* hello) { hello->extensions_length = 426, hello->trailer = {0}; }),
      shape("an empty message", [](Hello* hello) { hello->length = 0; }),
      shape("a message of 40 bytes", [](Hello* hello) { hello->length = 40; }),
      shape("a message that ends in its extensions", [](Hello* hello) { hello->length = 200; }),
      shape("a message that is longer than its records", [](Hello* hello) { hello->length = 505; }),
      shape("a message of 20 kB", [](Hello* hello) { hello->length = 19997; }),
      shape("a message of 16 MB", [](Hello* hello) { hello->length = 0xffffff; }),
  });
}

// The extensions are short of a header at their end: known with the last byte of the message, not one later.
TEST(Hello, RefusesAHelloThatEndsInTheMiddleOfAFieldWithItsLastByte) {
  for (const std::size_t left_over : {1, 2, 3}) {
    SCOPED_TRACE(left_over);
    ClientHello hello;
    hello.extensions = {{0x000b, {3, 0, 1, 2}, {}}};
    hello.trailer = Bytes(left_over, 0);
    hello.extensions_length = static_cast<std::uint16_t>(8 + left_over);
    EXPECT_TRUE(ParseAnyhow(Records(hello.Message())).refused());
  }
  ClientHello hello;
  hello.has_extensions = false;
  EXPECT_TRUE(ParseAnyhow(Records(hello.Message())).refused());
  hello.trailer = {0};
  EXPECT_TRUE(ParseAnyhow(Records(hello.Message())).refused());
}

TEST(Hello, RefusesWhatIsNoClientHello) {
  const Bytes message = TypicalHello(kName).Message();
  const auto spoiled = [&](std::size_t at, std::uint8_t value) {
    Bytes stream = Records(message);
    stream[at] = value;
    return stream;
  };
  Bytes twice = Records(message, 100);
  std::vector<Shape> shapes = {{"HTTP", Text("GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")},
                               {"the preface of HTTP/2", Text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")},
                               {"SSH", Text("SSH-2.0-OpenSSH_9.2\r\n")},
                               {"a hello of SSLv2", {0x80, 0x2e, 0x01, 0x03, 0x01, 0x00, 0x15}},
                               {"an alert", {21, 3, 1, 0, 2, 1, 0}},
                               {"change cipher spec first", {20, 3, 1, 0, 1, 1}},
                               {"application data", {23, 3, 3, 0, 1, 1}},
                               {"a server's hello", With([](ClientHello* hello) { hello->type = 2; })},
                               {"a hello request", With([](ClientHello* hello) { hello->type = 0; })},
                               {"another major version", spoiled(1, 2)},
                               {"an empty record", {22, 3, 1, 0, 0}},
                               {"a record of 16385 bytes", {22, 3, 1, 0x40, 1}},
                               {"another record inside", spoiled(0, 23)}};
  twice[105] = 23;  // the second record
  shapes.push_back({"another record in the middle", twice});
  twice[105] = 22;
  twice[108] = twice[109] = 0;
  shapes.push_back({"an empty record in the middle", twice});
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(shape.name);
    EXPECT_TRUE(ParseAnyhow(shape.stream).refused());
  }
}

TEST(Hello, StaysUndecidedUntilItsLastByte) {
  const Bytes stream = Records(TypicalHello(kName).Message(), 100);
  for (std::size_t length = 0; length < stream.size(); ++length) {
    const HelloParser parser = ParseWhole({stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(length)});
    ASSERT_EQ(EndOf(parser), End::kIncomplete) << length;
  }
  EXPECT_EQ(EndOf(ParseWhole(stream)), End::kName);
}

TEST(Hello, KnowsTheNameWithItsLastCharacterAndNotBefore) {
  const Bytes stream = Records(TypicalHello(kName).Message());
  const auto found = std::search(stream.begin(), stream.end(), kName.begin(), kName.end());
  const std::size_t end = static_cast<std::size_t>(found - stream.begin()) + kName.size();
  HelloParser parser;
  for (std::size_t at = 0; at < stream.size(); ++at) {
    EXPECT_TRUE(parser.Feed(std::span(stream).subspan(at, 1), kNoBound));
    ASSERT_EQ(parser.named(), at + 1 >= end) << at;
  }
}

// Nothing behind the hello is looked at: data that comes with it belongs to the connection.
TEST(Hello, LeavesWhatFollowsAlone) {
  Bytes stream = Records(TypicalHello(kName).Message());
  const HelloParser without = ParseWhole(stream);
  stream.insert(stream.end(), 100, 0xff);
  const HelloParser with = ParseAnyhow(stream);
  EXPECT_EQ(EndOf(with), End::kName);
  EXPECT_EQ(std::memcmp(&with.state(), &without.state(), sizeof with.state()), 0);
}

TEST(Hello, TakesOneTurnForAByteAtMost) {
  const Bytes stream = Records(TypicalHello(kName, 16000).Message(), 1);
  const HelloParser parser = ParseAnyhow(stream);
  EXPECT_EQ(EndOf(parser), End::kName);
  EXPECT_LE(parser.turns(), stream.size() + 1);
  HelloParser bounded;
  EXPECT_FALSE(bounded.Feed(stream, HELLO_TURNS)) << "a frame that needs too many turns is refused";
  const Bytes large = Records(TypicalHello(kName, 19996).Message());
  HelloParser enough;
  EXPECT_TRUE(enough.Feed(large, HELLO_TURNS));
}

// Any change of any byte: never another verdict than the reference's, and never one that depends on the pieces.
TEST(Hello, AgreesWithTheReferenceOnHellosWithDamage) {
  std::mt19937 random(7);
  int named = 0;
  for (int round = 0; round < 3000; ++round) {
    ClientHello hello = TypicalHello(random() % 2 == 0 ? kName : "Sub.Example.com.", random() % 3 * 120);
    if (random() % 3 == 0) hello.extensions_length = static_cast<std::uint16_t>(random() % 520);
    Bytes stream = Records(hello.Message(), 1 + random() % 300);
    for (unsigned edits = random() % 3; edits > 0; --edits) {
      const std::size_t at =
          random() % 2 == 0 ? random() % stream.size() : random() % std::min<std::size_t>(90, stream.size());
      switch (random() % 3) {
        case 0: stream[at] = static_cast<std::uint8_t>(random()); break;
        case 1: stream[at] ^= static_cast<std::uint8_t>(1u << random() % 8); break;
        default: stream.erase(stream.begin() + static_cast<std::ptrdiff_t>(at)); break;
      }
    }
    SCOPED_TRACE(round);
    named += EndOf(ParseAnyhow(stream)) == End::kName ? 1 : 0;
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(named, 500);
  EXPECT_LT(named, 2500);
}

}  // namespace
}  // namespace egress::test
