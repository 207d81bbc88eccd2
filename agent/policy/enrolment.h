// Enrolment: which namespaces are part of the mesh (SEMANTICS 2).
#pragma once

#include <string>

#include "agent/policy/model.h"

namespace egress::policy {

bool IsEnrolled(const Namespace& ns, const Settings& settings);

// In words, why not; for a namespace that IsEnrolled() refuses.
std::string WhyNotEnrolled(const Namespace& ns, const Settings& settings);

// One that is not governed while its object is missing or invalid: the cluster's own, ours, the control plane's.
bool IsSystemNamespace(const std::string& name, const Settings& settings);

}  // namespace egress::policy
