// Resolve: one valid Egress and what it refers to -> EffectivePolicy and the findings that only the others show.
#pragma once

#include <functional>
#include <vector>

#include "agent/policy/effective.h"
#include "agent/policy/object.h"

namespace egress::policy {

struct Resolution {
  PolicyPtr policy;  // nullptr: the Egress is inert, or grants nobody anything
  std::vector<Finding> findings;
};

// `find` gives what is known under a key, valid or not; nullptr where there is nothing.
using FindObject = std::function<const Object*(const Key&)>;

// `egress` is a valid Egress. The keys that Resolve() asks `find` for. Sorted, unique.
std::vector<Key> ReferencesOf(const Object& egress);

Resolution Resolve(const Object& egress, const Settings& settings, const FindObject& find);

}  // namespace egress::policy
