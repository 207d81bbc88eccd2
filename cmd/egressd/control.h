// Control: the agent's Unix socket, RUN_DIR/egressd.sock (mode 0600), through which egressctl asks.
//
// A client sends one line of JSON and reads until the end of the stream:
//   {"command":"status"}                                                one line: AgentStatus
//   {"command":"pods"}                                                  one line: array of PodStatus
//   {"command":"events","follow":true,"pod":"curl/curl","verdict":"deny"}  a line for each event; all but command
//                                                                       may be left out
// A request that cannot be served is answered by {"error":"..."}. A follower that does not read fast enough gets
// {"lost":"..."} as its last line and is dropped; nothing a client does makes the agent wait.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/base/event_loop.h"
#include "agent/base/result.h"
#include "cmd/egressd/event_log.h"

namespace egress::report {

// RUN_DIR/egressd.sock
std::string ControlSocketPath(const std::string& run_dir);

class Control {
 public:
  // Both are called in the loop's thread.
  struct Handlers {
    std::function<nlohmann::json()> status;
    std::function<nlohmann::json()> pods;
  };

  // Listens. `run_dir` has to exist. The socket of an agent that is no more is replaced; where one still answers,
  // this fails. `loop` and `events` have to outlive the object.
  static Result<Control> Listen(EventLoop& loop, const std::string& run_dir, Handlers handlers, EventLog& events);

  // Closes all connections and removes the socket.
  ~Control();
  Control(Control&&) noexcept;
  Control& operator=(Control&&) noexcept;

 private:
  struct Impl;
  explicit Control(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace egress::report
