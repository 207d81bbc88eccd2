// Fuzzes the parser of frames (bpf/packet.h). Input: a byte of flags (1: a VLAN tag was there, 2: several segments in
// one), then a frame. What is parsed whole lies in the frame, is what a plain reader finds at the same places, and does
// not depend on anything behind the headers.

#include <arpa/inet.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "tests/fuzz/packet_parser.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

void Require(bool holds) {
  if (!holds) std::abort();
}

parsed Parse(const Bytes& frame, int flags) {
  parsed result;
  parse_memory(frame.data(), static_cast<unsigned>(frame.size()), flags & 1, flags & 2, &result);
  return result;
}

unsigned Number(std::span<const std::uint8_t> bytes, std::size_t at, int width) {
  unsigned value = 0;
  for (int i = 0; i < width; ++i) value = value << 8 | bytes[at + static_cast<std::size_t>(i)];
  return value;
}

// Where the header of layer 4 begins, and its protocol; nothing where the chain of headers is not one that may leave.
struct Upper {
  std::size_t at;
  unsigned protocol;
};
std::optional<Upper> FindUpper(std::span<const std::uint8_t> frame) {
  if (Number(frame, 12, 2) == 0x0800) return Upper{34, frame[23]};
  std::size_t at = 54;
  unsigned next = frame[20];
  for (int i = 0; i <= 8; ++i) {
    if (next != 0 && next != 60 && next != 44) return Upper{at, next};
    if (i == 8 || (next == 0 && i > 0) || at + 4 > frame.size()) return std::nullopt;
    if (next == 44 && (Number(frame, at + 2, 2) & 0xfff9) != 0) return std::nullopt;
    const std::size_t length = next == 44 ? 8 : (frame[at + 1] + 1U) * 8;
    next = frame[at];
    at += length;
  }
  return std::nullopt;
}

bool IsFragmentOrOdd4(std::span<const std::uint8_t> frame) {
  return frame[14] != 0x45 || (Number(frame, 20, 2) & 0xbfff) != 0 || frame[22] == 0;
}

void CheckAddresses(std::span<const std::uint8_t> frame, const parsed& found) {
  const bool ip4 = Number(frame, 12, 2) == 0x0800;
  static const std::uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (ip4) {
    Require(std::memcmp(found.source, kMapped, 12) == 0 && std::memcmp(found.destination, kMapped, 12) == 0);
    Require(std::memcmp(found.source + 12, &frame[26], 4) == 0 &&
            std::memcmp(found.destination + 12, &frame[30], 4) == 0);
    return;
  }
  Require(std::memcmp(found.source, &frame[22], 16) == 0 && std::memcmp(found.destination, &frame[38], 16) == 0);
  Require(std::memcmp(found.source, kMapped, 12) != 0 && std::memcmp(found.destination, kMapped, 12) != 0);
}

void CheckWhole(std::span<const std::uint8_t> frame, const parsed& found, bool segments) {
  Require(found.l4 <= found.end && found.end <= frame.size());
  const bool ip4 = Number(frame, 12, 2) == 0x0800;
  if (ip4) Require(!IsFragmentOrOdd4(frame));
  if (!ip4) Require(frame[21] != 0);
  if (!segments) Require(found.end == 14 + (ip4 ? Number(frame, 16, 2) : 40 + Number(frame, 18, 2)));
  const auto upper = FindUpper(frame);
  Require(upper && upper->at == found.l4 && upper->protocol == found.protocol);
  if (found.protocol == 6) {
    Require(found.payload >= found.l4 + 20 && found.payload <= found.end);
    Require(found.payload - found.l4 == (frame[found.l4 + 12] >> 4) * 4U);
    Require(found.flags == frame[found.l4 + 13] && found.sequence == Number(frame, found.l4 + 4, 4));
  }
  if (found.protocol == 6 || found.protocol == 17 || found.protocol == 136) {
    Require(found.source_port == Number(frame, found.l4, 2) && found.port == Number(frame, found.l4 + 2, 2));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  Bytes frame(data + 1, data + size);
  const int flags = data[0] & 3;
  const parsed found = Parse(frame, flags);
  Require(!found.is_ip || (frame.size() >= 34 && !(flags & 1)));
  if (frame.size() >= 14) Require(std::memcmp(found.mac, &frame[6], 6) == 0);
  if (!found.is_ip) return 0;
  CheckAddresses(frame, found);
  if (found.bad != 0) return 0;
  CheckWhole(frame, found, flags & 2);
  // Neither the payload nor what pads the frame changes anything.
  const std::size_t behind = found.protocol == 6 ? found.payload : found.l4 + 8;
  for (std::size_t at = behind; at < frame.size(); ++at) frame[at] ^= 0x5a;
  if (!(flags & 2)) frame.resize(frame.size() + 7, 0xee);
  const parsed again = Parse(frame, flags);
  Require(std::memcmp(&found, &again, sizeof found) == 0);
  return 0;
}
