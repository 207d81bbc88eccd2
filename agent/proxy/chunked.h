// The chunked coding (RFC 9112, 7.1), read strictly and piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace egress::proxy {

// Decodes a chunked body that arrives in pieces of any size. Extensions and trailers are checked and dropped; both
// are bounded, as everything that has to be read before something can be passed on.
class ChunkDecoder {
 public:
  enum class Status {
    kMore,  // all input was consumed; the body goes on
    kData,  // `data` is a piece of the body; call again with what is behind `consumed`
    kDone,  // the body has ended at `consumed`
    kBad,   // not a chunked body
  };
  struct Piece {
    Status status = Status::kMore;
    std::size_t consumed = 0;
    std::string_view data;  // in the input
  };

  Piece Next(std::string_view input);
  void Reset() { *this = ChunkDecoder(); }

 private:
  enum class State : std::uint8_t {
    kSizeStart,
    kSize,
    kExtension,
    kSizeLineFeed,
    kData,
    kDataReturn,
    kDataLineFeed,
    kTrailerStart,
    kTrailerName,
    kTrailerValue,
    kTrailerLineFeed,
    kLastLineFeed,
    kDone,
    kBad,
  };
  State Step(char c);
  State SizeDigit(char c);

  State state_ = State::kSizeStart;
  std::uint64_t left_ = 0;      // of the chunk
  std::uint32_t digits_ = 0;    // of the size line
  std::uint32_t overhead_ = 0;  // bytes of the extension, or of all trailers
};

// Writes "SIZE CRLF" of a chunk into `out`, which has kChunkHeaderBytes; returns how many bytes.
constexpr std::size_t kChunkHeaderBytes = 18;
std::size_t WriteChunkHeader(std::uint64_t size, char* out);

}  // namespace egress::proxy
