#include "agent/proxy/chunked.h"

#include <algorithm>

#include "agent/proxy/http_fields.h"

namespace egress::proxy {
namespace {

constexpr std::uint32_t kMaxDigits = 15;  // a size below 2^60: sums do not overflow
constexpr std::uint32_t kMaxExtension = 256;
constexpr std::uint32_t kMaxTrailers = 8192;

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsFieldChar(char c) { return c == '\t' || (c >= 0x20 && c != 0x7f) || c < 0; }

}  // namespace

ChunkDecoder::State ChunkDecoder::SizeDigit(char c) {
  const int value = HexValue(c);
  if (value < 0 || ++digits_ > kMaxDigits) return State::kBad;
  left_ = left_ * 16 + static_cast<std::uint64_t>(value);
  return State::kSize;
}

// Everything but chunk data, one byte at a time.
ChunkDecoder::State ChunkDecoder::Step(char c) {
  switch (state_) {
    case State::kSizeStart: left_ = digits_ = overhead_ = 0; return SizeDigit(c);
    case State::kSize:
      if (c == '\r') return State::kSizeLineFeed;
      return c == ';' ? State::kExtension : SizeDigit(c);
    case State::kExtension:
      if (c == '\r') return State::kSizeLineFeed;
      return IsFieldChar(c) && ++overhead_ <= kMaxExtension ? State::kExtension : State::kBad;
    case State::kSizeLineFeed:
      if (c != '\n') return State::kBad;
      overhead_ = 0;
      return left_ > 0 ? State::kData : State::kTrailerStart;
    case State::kDataReturn: return c == '\r' ? State::kDataLineFeed : State::kBad;
    case State::kDataLineFeed: return c == '\n' ? State::kSizeStart : State::kBad;
    case State::kTrailerStart:
      if (c == '\r') return State::kLastLineFeed;
      return IsTokenChar(c) && ++overhead_ <= kMaxTrailers ? State::kTrailerName : State::kBad;
    case State::kTrailerName:
      if (++overhead_ > kMaxTrailers) return State::kBad;
      if (c == ':') return State::kTrailerValue;
      return IsTokenChar(c) ? State::kTrailerName : State::kBad;
    case State::kTrailerValue:
      if (c == '\r') return State::kTrailerLineFeed;
      return IsFieldChar(c) && ++overhead_ <= kMaxTrailers ? State::kTrailerValue : State::kBad;
    case State::kTrailerLineFeed: return c == '\n' ? State::kTrailerStart : State::kBad;
    case State::kLastLineFeed: return c == '\n' ? State::kDone : State::kBad;
    default: return State::kBad;
  }
}

ChunkDecoder::Piece ChunkDecoder::Next(std::string_view input) {
  Piece piece;
  while (true) {
    if (state_ == State::kDone) piece.status = Status::kDone;
    if (state_ == State::kBad) piece.status = Status::kBad;
    if (piece.status != Status::kMore || piece.consumed == input.size()) return piece;
    if (state_ == State::kData) {
      const std::size_t size = std::min<std::uint64_t>(left_, input.size() - piece.consumed);
      piece.data = input.substr(piece.consumed, size);
      piece.consumed += size;
      piece.status = Status::kData;
      left_ -= size;
      if (left_ == 0) state_ = State::kDataReturn;
      return piece;
    }
    state_ = Step(input[piece.consumed]);
    if (state_ != State::kBad) ++piece.consumed;
  }
}

std::size_t WriteChunkHeader(std::uint64_t size, char* out) {
  constexpr char kDigits[] = "0123456789abcdef";
  int shift = 60;
  while (shift > 0 && (size >> shift) == 0) shift -= 4;
  std::size_t length = 0;
  for (; shift >= 0; shift -= 4) out[length++] = kDigits[(size >> shift) & 0xf];
  out[length++] = '\r';
  out[length++] = '\n';
  return length;
}

}  // namespace egress::proxy
