#include <iostream>

#include "agent/base/link_name.h"
#include "agent/datapath/pinned_view.h"
#include "cmd/egressctl/client.h"
#include "cmd/egressctl/commands.h"
#include "cmd/egressd/status.h"

namespace egress::ctl {

using nlohmann::json;

namespace {

report::PodStatus FromMaps(const datapath::PodPolicy& view) {
  report::PodStatus status;
  status.pod = view.pod.name();
  status.governed = true;
  status.service_account = view.pod.service_account();
  for (const Address& address : view.pod.addresses()) status.addresses.push_back(address.ToString());
  status.interface = LinkName(static_cast<int>(view.pod.pod.ifindex));
  status.policies = static_cast<int>(view.policies.size());
  status.state = view.pod.state.unguarded != 0 ? "unguarded" : "guarded";
  return status;
}

Result<json> PodsFromMaps(const std::string& bpffs) {
  const auto view = datapath::PinnedView::Open(bpffs);
  if (!view) return view.error();
  const auto pods = view->Policies();
  if (!pods) return pods.error();
  json result = json::array();
  for (const datapath::PodPolicy& pod : *pods) result.push_back(FromMaps(pod).ToJson());
  return result;
}

std::string JoinTexts(const std::vector<std::string>& texts) {
  std::string result;
  for (const std::string& text : texts) result += (result.empty() ? "" : ",") + text;
  return result;
}

Result<std::string> PodTable(const json& pods) {
  std::vector<std::vector<std::string>> rows;
  for (const json& item : pods) {
    const auto pod = report::PodStatusFromJson(item);
    if (!pod) return pod.error();
    const std::string note = pod->governed ? pod->note : pod->why;
    rows.push_back({pod->pod, pod->governed ? "yes" : "no", pod->service_account, JoinTexts(pod->addresses),
                    pod->interface, pod->state, std::to_string(pod->policies), pod->netns, pod->cgroup, note});
  }
  return Table(
      {"POD", "GOVERNED", "SERVICEACCOUNT", "ADDRESSES", "INTERFACE", "STATE", "POLICIES", "NETNS", "CGROUP", "NOTE"},
      rows);
}

}  // namespace

int PodsCommand(const Options& options) {
  json pods;
  AgentError error;
  if (!Ask(options.run_dir, {{"command", "pods"}}, pods, error)) {
    auto from_maps = error.not_running ? PodsFromMaps(options.bpffs) : Result<json>(Error{});
    if (!from_maps) {
      Complain(error.message);
      if (error.not_running) Complain(from_maps.error().message);
      return kExitError;
    }
    Complain(error.message + "; these are the governed pods that the pinned maps hold");
    pods = *std::move(from_maps);
  }
  if (options.format != Format::kTable) {
    WriteData(std::cout, options.format, pods);
    return kExitOk;
  }
  const auto table = PodTable(pods);
  if (!table) {
    Complain(table.error().message);
    return kExitError;
  }
  std::cout << *table;
  return kExitOk;
}

}  // namespace egress::ctl
