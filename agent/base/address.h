// IP addresses and prefixes. Everything is kept as 16 bytes: an IPv4 address is its IPv4-mapped IPv6 form
// (RFC 4291, 2.5.5.2), so that both families go through the same code here and in the kernel.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace egress {

struct Address {
  std::array<std::uint8_t, 16> bytes{};  // network order

  bool IsV4() const;  // is of ::ffff:0:0/96
  auto operator<=>(const Address&) const = default;

  // "10.0.0.1" or "fd00::1", as inet_ntop writes it (canonical text of RFC 5952).
  std::string ToString() const;
};

// Parses dotted IPv4 or IPv6 text (no brackets, no zone). "::ffff:1.2.3.4" is the IPv4 address.
std::optional<Address> ParseAddress(std::string_view text);

// A range of addresses of one family, or of both: "::/0" holds no IPv4 address, though their 16-byte forms lie in it.
struct Prefix {
  enum class Family : std::uint8_t { kAny, kV4, kV6 };

  Family family = Family::kAny;
  std::uint8_t length = 0;  // 0..128, counted in the 16-byte form: an IPv4 /24 is 120; kAny has 0
  Address address;          // host bits are zero

  bool Contains(const Address& other) const;
  bool Contains(const Prefix& other) const;  // as wide or wider
  auto operator<=>(const Prefix&) const = default;

  // "198.51.100.0/24", "2001:db8::/32", and "any" for kAny.
  std::string ToString() const;
};

// The prefix of `address`'s family with all bits behind `length` (in the 16-byte form) cleared.
Prefix MakePrefix(const Address& address, std::uint8_t length);

// Strictly ADDRESS/LENGTH. Fails without a message where the text is no CIDR at all; where host bits are set,
// `masked` gets the CIDR that was probably meant.
std::optional<Prefix> ParsePrefix(std::string_view text, std::string* masked = nullptr);

}  // namespace egress
