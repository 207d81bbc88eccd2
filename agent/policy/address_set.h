// AddressSet: the addresses that a list of prefixes covers, as sorted ranges.
#pragma once

#include <span>
#include <vector>

#include "agent/base/address.h"

namespace egress::policy {

class AddressSet {
 public:
  explicit AddressSet(std::span<const Prefix> prefixes);

  bool Contains(const Address& address) const;

 private:
  // Both ends are inside.
  struct Range {
    Address first;
    Address last;
  };
  using Ranges = std::vector<Range>;  // sorted, disjoint

  bool any_ = false;
  Ranges v4_;
  Ranges v6_;
};

}  // namespace egress::policy
