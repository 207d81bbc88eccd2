// AddressForms: the IPv4 addresses in an IPv6 one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "agent/base/address.h"

namespace egress {

// The address itself, and the IPv4 addresses that packets to it reach, or pass, once it has been translated or unpacked:
// NAT64 (64:ff9b::/96; RFC 6052, 2.1), 6to4 (2002::/16; RFC 3056, 2), Teredo (2001::/32; RFC 4380, 4: server, client).
// What may go to the address has to be allowed for each of them.
class AddressForms {
 public:
  explicit AddressForms(const Address& address);
  const Address* begin() const { return forms_.data(); }
  const Address* end() const { return forms_.data() + count_; }
  std::size_t size() const { return count_; }

 private:
  void AddV4(const Address& from, std::size_t at, std::uint8_t inverted = 0);

  std::array<Address, 3> forms_;
  std::size_t count_ = 1;
};

}  // namespace egress
