// The client of the agent's control socket; see cmd/egressd/control.h.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/base/result.h"

namespace egress::ctl {

struct AgentError {
  bool not_running = false;
  std::string message;  // with what to do
};

// One request, and each line of the answer as it comes, until the agent ends it or `line` returns false. False: it
// failed, and `error` says why. An {"error": ...} or {"lost": ...} of the agent is a failure too.
bool AskLines(const std::string& run_dir, const nlohmann::json& request,
              const std::function<bool(const nlohmann::json& line)>& line, AgentError& error);

// One request with one line as its answer.
bool Ask(const std::string& run_dir, const nlohmann::json& request, nlohmann::json& answer, AgentError& error);

}  // namespace egress::ctl
