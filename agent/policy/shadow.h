// Shadows: what one policy of a ServiceAccount makes pointless in another.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "agent/policy/effective.h"
#include "agent/policy/object.h"

namespace egress::policy {

// Finds, among the policies of one ServiceAccount, http and https rules that a tcp rule of another policy covers, and
// https rules that share port and address with an http rule of another policy. What one Egress does to itself is
// found when it is parsed. One finding a port of an Egress. Costs n log n in the number of CIDRs.
// `egress_of` gives the Egress behind a policy, for the lines.
std::vector<Finding> FindShadows(std::span<const PolicyPtr> policies,
                                 const std::function<const Object*(const ObjectId&)>& egress_of);

}  // namespace egress::policy
