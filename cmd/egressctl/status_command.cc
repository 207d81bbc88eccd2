#include <iostream>

#include "agent/datapath/pinned_view.h"
#include "cmd/egressctl/client.h"
#include "cmd/egressctl/commands.h"
#include "cmd/egressctl/status_text.h"
#include "cmd/egressd/status.h"

namespace egress::ctl {

using nlohmann::json;

namespace {

// What can be said without the agent: enforcement goes on from the pinned maps.
int StatusFromMaps(const Options& options, const AgentError& error) {
  Complain(error.message);
  const auto view = datapath::PinnedView::Open(options.bpffs);
  json result = {{"running", false}, {"pinned", view.ok()}, {"pods", json::array()}, {"maps", json::array()}};
  if (!view) {
    result["problem"] = view.error().message;
  } else {
    const auto pods = view->Pods();
    if (pods) {
      for (const datapath::PinnedPod& pod : *pods) result["pods"].push_back(pod.name());
    } else {
      result["problem"] = pods.error().message;
    }
    for (const datapath::PinnedMapUse& use : view->MapUse()) {
      result["maps"].push_back({{"map", use.map}, {"entries", use.entries}, {"capacity", use.capacity}});
    }
  }
  if (options.format != Format::kTable) {
    WriteData(std::cout, options.format, result);
  } else {
    std::cout << PinnedText(result, options.bpffs);
  }
  return kExitNo;
}

}  // namespace

int StatusCommand(const Options& options) {
  json answer;
  AgentError error;
  if (!Ask(options.run_dir, {{"command", "status"}}, answer, error)) {
    if (error.not_running) return StatusFromMaps(options, error);
    Complain(error.message);
    return kExitError;
  }
  if (options.format != Format::kTable) {
    WriteData(std::cout, options.format, answer);
    return kExitOk;
  }
  const auto status = report::StatusFromJson(answer);
  if (!status) {
    Complain(status.error().message);
    return kExitError;
  }
  std::cout << StatusText(*status);
  return kExitOk;
}

}  // namespace egress::ctl
