// The taint that keeps pods off a new node until its agent is ready.
#pragma once

#include <functional>
#include <string>

#include "agent/base/result.h"
#include "agent/source/http_client.h"

namespace egress::source {

inline constexpr const char* kNotReadyTaint = "egressd.io/agent-not-ready";

// Takes it off, where the node bears it; whatever value and effect it has. `done` is called once; an error where that
// could not be done: try again.
void RemoveNotReadyTaint(HttpClient& http, const std::string& node, std::function<void(Result<void>)> done);

}  // namespace egress::source
