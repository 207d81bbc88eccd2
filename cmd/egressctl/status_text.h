// `egressctl status` for people.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cmd/egressd/status.h"

namespace egress::ctl {

std::string StatusText(const report::AgentStatus& status);

// While no agent runs: what the pinned maps tell, {pinned, pods, maps, problem}.
std::string PinnedText(const nlohmann::json& pinned, const std::string& bpffs);

}  // namespace egress::ctl
