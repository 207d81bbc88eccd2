// The header section of HTTP/1 (RFC 9112), parsed strictly: what two parsers could read differently is refused.
// Used for requests and responses alike. Zero-copy: all views point into the bytes that were parsed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace egress::proxy {

constexpr std::size_t kMaxHeadBytes = 64U << 10;
constexpr std::size_t kMaxHeaders = 100;

enum class ParseStatus {
  kComplete,
  kIncomplete,  // a prefix of something that may be valid
  kMalformed,   // 400 (502 for a response)
  kTooLarge,    // over kMaxHeadBytes or kMaxHeaders: 431
};

// Names that the proxy itself understands.
enum class FieldName : std::uint8_t {
  kOther,
  kHost,
  kContentLength,
  kTransferEncoding,
  kConnection,
  kUpgrade,
  kExpect,
  kHopByHop,  // Keep-Alive, TE, Trailer, Proxy-*: never passed on
};

struct Field {
  std::string_view name;   // as sent
  std::string_view value;  // without blanks around it
  FieldName kind = FieldName::kOther;
  bool nominated = false;  // named in Connection: hop-by-hop, not passed on
};

struct Fields {
  std::array<Field, kMaxHeaders> items;
  std::size_t count = 0;
  std::string_view host;
  int host_count = 0;
  std::optional<std::uint64_t> content_length;
  bool chunked = false;
  bool connection_close = false;
  bool connection_keep_alive = false;
  bool connection_upgrade = false;
  bool upgrade_websocket = false;  // Upgrade names websocket and nothing else
  bool expect_continue = false;

  void Clear();
};

// A place in the bytes being parsed, and what was found wrong.
struct Cursor {
  const char* at = nullptr;
  const char* end = nullptr;
  const char* problem = "";  // in words, where the status is kMalformed

  bool Done() const { return at == end; }
  ParseStatus Fail(const char* why) {
    problem = why;
    return ParseStatus::kMalformed;
  }
};

// Parses header lines up to and including the empty line; `cursor` ends behind it.
ParseStatus ParseFields(Cursor* cursor, Fields* fields);

// What has to be known in front of the field section: CRLF at the cursor, nothing else.
ParseStatus ParseLineEnd(Cursor* cursor);

bool IsTokenChar(char c);  // RFC 9110, 5.6.2
bool EqualsIgnoreCase(std::string_view text, std::string_view lower);

// 1*DIGIT, below 10^18. Nothing else: no sign, blank, comma or hex.
std::optional<std::uint64_t> ParseDecimal(std::string_view text);

// `max` for a head that is not complete yet: kTooLarge once it cannot become valid any more.
inline ParseStatus IncompleteOrTooLarge(std::size_t bytes) {
  return bytes >= kMaxHeadBytes ? ParseStatus::kTooLarge : ParseStatus::kIncomplete;
}

}  // namespace egress::proxy
