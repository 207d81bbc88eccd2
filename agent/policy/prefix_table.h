// PrefixTable: values by prefix, and the walk over all prefixes that cover an address or a prefix.
//
// One hash table, and the list of the lengths in use: a lookup costs one probe for each, however many prefixes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "agent/base/address.h"

namespace egress::policy {

struct PrefixHash {
  std::size_t operator()(const Prefix& prefix) const;
};

template <typename T>
class PrefixTable {
 public:
  // The value of a prefix, made where there is none.
  T& At(const Prefix& prefix) {
    const auto [entry, added] = values_.try_emplace(prefix);
    if (added) {
      const Level level{prefix.family, prefix.length};
      const auto at = std::lower_bound(levels_.begin(), levels_.end(), level);
      if (at == levels_.end() || *at != level) levels_.insert(at, level);
    }
    return entry->second;
  }

  bool empty() const { return values_.empty(); }

  // Calls visit(value) for each prefix that covers `prefix`, the widest first.
  template <typename Visit>
  void ForEachCovering(const Prefix& prefix, Visit visit) const {
    for (const Level& level : levels_) {
      const bool any = level.family == Prefix::Family::kAny;
      if (!any && (level.family != prefix.family || level.length > prefix.length)) continue;
      const auto found = values_.find(any ? Prefix{} : MakePrefix(prefix.address, level.length));
      if (found != values_.end() && found->first.family == level.family) visit(found->second);
    }
  }
  template <typename Visit>
  void ForEachCovering(const Address& address, Visit visit) const {
    ForEachCovering(MakePrefix(address, 128), visit);
  }

 private:
  struct Level {
    Prefix::Family family;
    std::uint8_t length;
    auto operator<=>(const Level&) const = default;
  };

  std::vector<Level> levels_;  // sorted: kAny, then IPv4, then IPv6, shorter lengths first
  std::unordered_map<Prefix, T, PrefixHash> values_;
};

}  // namespace egress::policy
