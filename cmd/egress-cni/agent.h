// A question to the agent, over its socket.
#pragma once

#include <chrono>
#include <string>

#include "agent/base/fd.h"
#include "agent/base/result.h"
#include "agent/cni/request.h"

namespace egress::cni {

using Deadline = std::chrono::steady_clock::time_point;

// A connection; Error: nobody listens there. Where the agent lives and does not take it by the deadline: an invalid Fd.
Result<Fd> ConnectAgent(const std::string& path, Deadline deadline);

// Sends the request and reads the answer line, without its end; Error: none came, or what came is none.
Result<std::string> AskAgent(const Fd& agent, const Request& request, Deadline deadline);

}  // namespace egress::cni
