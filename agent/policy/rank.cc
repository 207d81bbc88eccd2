#include "agent/policy/rank.h"

#include <tuple>

namespace egress::policy {

bool PreferredOver(const EffectivePolicy& a, const EffectivePolicy& b) {
  const auto rank = [](const Limits& limits) {
    const std::int64_t widest_first = limits.max_connections ? -static_cast<std::int64_t>(*limits.max_connections) : 0;
    return std::tuple(limits.max_connections.has_value(), widest_first, limits != Limits());
  };
  return std::tuple(rank(a.limits), std::tie(a.id)) < std::tuple(rank(b.limits), std::tie(b.id));
}

}  // namespace egress::policy
