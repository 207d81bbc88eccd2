#include <iostream>

#include "cmd/egressctl/client.h"
#include "cmd/egressctl/commands.h"
#include "cmd/egressd/event_log.h"
#include "cmd/egressd/json_text.h"

namespace egress::ctl {

using nlohmann::json;

namespace {

void Write(const Options& options, const json& event) {
  switch (options.format) {
    case Format::kTable: std::cout << report::EventLine(event) << "\n"; break;
    case Format::kJson: std::cout << report::JsonText(event) << "\n"; break;
    case Format::kYaml: std::cout << "---\n" << Yaml(event); break;
  }
}

}  // namespace

int EventsCommand(const Options& options, const EventsArguments& arguments) {
  json request = {{"command", "events"}, {"follow", arguments.follow}};
  if (!arguments.pod.empty()) request["pod"] = arguments.pod;
  if (!arguments.verdict.empty()) request["verdict"] = arguments.verdict;
  const auto take = [&](const json& event) {
    if (event.is_object()) Write(options, event);
    if (arguments.follow) std::cout.flush();
    return std::cout.good();
  };
  AgentError error;
  const bool ended = AskLines(options.run_dir, request, take, error);
  std::cout.flush();
  if (ended && arguments.follow && std::cout.good()) error.message = "egressd has ended: no more events";
  if (ended && error.message.empty()) return kExitOk;
  Complain(error.message + (error.not_running ? "; events are kept by the agent only" : ""));
  return kExitError;
}

}  // namespace egress::ctl
