// Fuzzes the parser of ClientHellos (bpf/hello.h). Input: two bytes that seed how the rest, a stream, is cut into
// frames. Whole or in pieces the outcome is the same, the reference agrees with it, and no byte costs more than one
// turn.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>

#include "tests/support/client_hello.h"
#include "tests/support/hello_parser.h"

namespace {

using egress::test::HelloParser;

constexpr unsigned kNoBound = 1u << 30;

void Require(bool condition) {
  if (!condition) std::abort();
}

HelloParser ParseInPieces(std::span<const unsigned char> stream, unsigned seed) {
  std::mt19937 random(seed);
  const std::size_t most = seed % 4 == 0 ? 3 : seed % 4 == 1 ? 40 : 600;
  HelloParser parser;
  while (!stream.empty()) {
    const std::size_t length = std::min<std::size_t>(stream.size(), 1 + random() % most);
    Require(parser.Feed(stream.first(length), kNoBound));
    stream = stream.subspan(length);
  }
  return parser;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const unsigned seed = data[0] | data[1] << 8;
  const egress::test::Bytes stream(data + 2, data + size);
  HelloParser whole;
  Require(whole.Feed(stream, kNoBound));
  Require(whole.turns() <= stream.size() + 1);
  const HelloParser pieces = ParseInPieces(stream, seed);
  Require(pieces.refused() == whole.refused());
  Require(pieces.state().names == whole.state().names);
  Require(whole.refused() || std::memcmp(&pieces.state(), &whole.state(), sizeof(struct hello)) == 0);
  const auto reference = egress::test::NameOf(stream);
  Require(reference.has_value() == (whole.complete() && whole.named()));
  Require(!reference || *reference == whole.name());
  return 0;
}
