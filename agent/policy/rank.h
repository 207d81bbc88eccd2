// Which of several policies that grant the same is named and counted against.
#pragma once

#include "agent/policy/effective.h"

namespace egress::policy {

// A policy without a limit of connections comes first, then the widest limit; then one without other limits; then
// the smaller id. Nobody is held to a limit while another policy grants the same without it.
bool PreferredOver(const EffectivePolicy& a, const EffectivePolicy& b);

}  // namespace egress::policy
