#include "agent/base/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace egress {
namespace {

constexpr std::array<std::uint8_t, 12> kMappedHead = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

bool Address::IsV4() const { return std::equal(kMappedHead.begin(), kMappedHead.end(), bytes.begin()); }

std::string Address::ToString() const {
  char text[INET6_ADDRSTRLEN];
  if (IsV4()) return ::inet_ntop(AF_INET, bytes.data() + 12, text, sizeof text);
  return ::inet_ntop(AF_INET6, bytes.data(), text, sizeof text);
}

std::optional<Address> ParseAddress(std::string_view text) {
  const std::string terminated(text);
  if (terminated.size() != std::strlen(terminated.c_str())) return std::nullopt;  // a NUL inside
  Address address;
  if (::inet_pton(AF_INET, terminated.c_str(), address.bytes.data() + 12) == 1) {
    std::copy(kMappedHead.begin(), kMappedHead.end(), address.bytes.begin());
    return address;
  }
  if (::inet_pton(AF_INET6, terminated.c_str(), address.bytes.data()) == 1) return address;
  return std::nullopt;
}

Prefix MakePrefix(const Address& address, std::uint8_t length) {
  Prefix prefix{address.IsV4() ? Prefix::Family::kV4 : Prefix::Family::kV6, length, address};
  for (int byte = 0; byte < 16; ++byte) {
    const int kept = std::clamp(static_cast<int>(length) - byte * 8, 0, 8);
    prefix.address.bytes[byte] &= static_cast<std::uint8_t>(0xff00 >> kept);
  }
  return prefix;
}

bool Prefix::Contains(const Address& other) const {
  return family == Family::kAny || MakePrefix(other, length) == *this;
}

bool Prefix::Contains(const Prefix& other) const {
  if (family == Family::kAny) return true;
  return other.family == family && other.length >= length && Contains(other.address);
}

std::string Prefix::ToString() const {
  if (family == Family::kAny) return "any";
  return address.ToString() + "/" + std::to_string(family == Family::kV4 ? length - 96 : length);
}

std::optional<Prefix> ParsePrefix(std::string_view text, std::string* masked) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto address = ParseAddress(text.substr(0, slash));
  const std::string_view digits = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (!address || error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (digits.size() > 1 && digits[0] == '0') return std::nullopt;
  const bool dotted = text.substr(0, slash).find(':') == std::string_view::npos;
  if (length > (dotted ? 32U : 128U)) return std::nullopt;
  // An IPv4-mapped text with a length below 96 has the mapped bits as host bits: refused like any other.
  const Prefix prefix = MakePrefix(*address, static_cast<std::uint8_t>(dotted ? length + 96 : length));
  if (prefix.address != *address) {
    if (masked != nullptr) *masked = prefix.ToString();
    return std::nullopt;
  }
  return prefix;
}

}  // namespace egress
