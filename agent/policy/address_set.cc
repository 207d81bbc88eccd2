#include "agent/policy/address_set.h"

#include <algorithm>

namespace egress::policy {
namespace {

Address LastOf(const Prefix& prefix) {
  Address last = prefix.address;
  for (int byte = 0; byte < 16; ++byte) {
    const int kept = std::clamp(static_cast<int>(prefix.length) - byte * 8, 0, 8);
    last.bytes[byte] |= static_cast<std::uint8_t>(0xff >> kept);
  }
  return last;
}

}  // namespace

AddressSet::AddressSet(std::span<const Prefix> prefixes) {
  for (const Prefix& prefix : prefixes) {
    if (prefix.family == Prefix::Family::kAny) {
      any_ = true;
    } else {
      (prefix.family == Prefix::Family::kV4 ? v4_ : v6_).push_back({prefix.address, LastOf(prefix)});
    }
  }
  for (Ranges* ranges : {&v4_, &v6_}) {
    // Prefixes are nested or disjoint: with the wider first, what is nested ends before the one in front does.
    std::sort(ranges->begin(), ranges->end(),
              [](const Range& a, const Range& b) { return a.first != b.first ? a.first < b.first : b.last < a.last; });
    std::size_t kept = 0;
    for (const Range& range : *ranges) {
      if (kept == 0 || (*ranges)[kept - 1].last < range.first) (*ranges)[kept++] = range;
    }
    ranges->resize(kept);
  }
}

bool AddressSet::Contains(const Address& address) const {
  if (any_) return true;
  const Ranges& ranges = address.IsV4() ? v4_ : v6_;
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), address,
                                      [](const Address& value, const Range& range) { return value < range.first; });
  return after != ranges.begin() && !(std::prev(after)->last < address);
}

}  // namespace egress::policy
