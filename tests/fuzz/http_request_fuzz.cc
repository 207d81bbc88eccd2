// Bytes from a pod: request heads and chunked bodies. What is accepted must mean the same once it is written anew,
// and must not depend on how it arrived.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/proxy/chunked.h"
#include "agent/proxy/http_request.h"
#include "agent/proxy/http_rewrite.h"
#include "tests/fuzz/reader_limits.h"

namespace {

using namespace egress::proxy;

constexpr std::uint16_t kPort = 80;

void Require(bool holds) {
  if (!holds) std::abort();
}

// What goes upstream is read by the next parser as what was judged.
void CheckRewritten(const RequestHead& head) {
  static BlockPool pool;
  BufferAccount account{.pool = &pool, .max_large = 4};
  Buffer out(&account);
  if (!WriteRequest(head, head.websocket, &out)) return;
  static RequestHead again;
  const ParseStatus status = ParseRequest(out.data(), kPort, &again);
  if (IsPastReaderLimits(out.data())) return Require(status == ParseStatus::kTooLarge);
  Require(status == ParseStatus::kComplete);
  Require(again.size == out.size());
  Require(again.method == head.method && again.path == head.path && again.target == head.target);
  Require(again.authority == head.authority);
  Require(again.body == head.body && again.length == head.length);
  Require(again.websocket == head.websocket);
  Require(out.data().find('\0') == std::string_view::npos);
}

// Every shorter input is one that may still become valid.
void CheckPrefix(std::string_view text, std::size_t size) {
  static RequestHead head;
  Require(ParseRequest(text.substr(0, size), kPort, &head) == ParseStatus::kIncomplete);
}

std::string Decode(std::string_view input, std::size_t step, bool* bad) {
  ChunkDecoder decoder;
  std::string data;
  while (!input.empty()) {
    const ChunkDecoder::Piece piece = decoder.Next(input.substr(0, step));
    data += piece.data;
    input.remove_prefix(piece.consumed);
    *bad = piece.status == ChunkDecoder::Status::kBad;
    if (*bad || piece.status == ChunkDecoder::Status::kDone) break;
  }
  return data;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  static RequestHead head;
  if (ParseRequest(text, kPort, &head) == ParseStatus::kComplete) {
    Require(head.size <= text.size());
    CheckRewritten(head);
    CheckPrefix(text, head.size * bytes[0] / 256);
    CheckPrefix(text, head.size - 1);
  }
  bool bad_whole = false;
  bool bad_pieces = false;
  const std::string whole = Decode(text, text.size() + 1, &bad_whole);
  const std::string pieces = Decode(text, 1 + bytes[0] % 16, &bad_pieces);
  Require(bad_whole == bad_pieces && whole == pieces);
  return 0;
}
