// Names to addresses, as a pod would resolve them.
#pragma once

#include <string>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/result.h"

namespace egress::ctl {

// All addresses of `host`, of both families, sorted. The name server is asked from within the network namespace at
// `netns_path`, or from this one where that is empty. Fails where there is none.
Result<std::vector<Address>> ResolveName(const std::string& host, const std::string& netns_path);

}  // namespace egress::ctl
