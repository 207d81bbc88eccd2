// What a CNI result says (CNI specification 1.1.0, section 5; the same since 0.3.0).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "agent/base/address.h"

namespace egress::cni {

// Addresses of `ips` but those of interfaces on the node, which have no `sandbox`. Whatever is not as it should be is
// skipped: it is for the plugin that wrote it to answer for.
std::vector<Address> PodAddresses(const nlohmann::json& result);

}  // namespace egress::cni
