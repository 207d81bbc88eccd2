#include "agent/policy/prefix_table.h"

#include <cstring>

namespace egress::policy {

std::size_t PrefixHash::operator()(const Prefix& prefix) const {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  std::memcpy(&high, prefix.address.bytes.data(), sizeof high);
  std::memcpy(&low, prefix.address.bytes.data() + sizeof high, sizeof low);
  std::uint64_t hash = (static_cast<std::uint64_t>(prefix.family) << 8 | prefix.length) + 0x9e3779b97f4a7c15U;
  for (const std::uint64_t word : {high, low}) {
    hash = (hash ^ word) * 0xff51afd7ed558ccdU;
    hash ^= hash >> 32;
  }
  return static_cast<std::size_t>(hash);
}

}  // namespace egress::policy
