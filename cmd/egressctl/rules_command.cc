#include <iostream>

#include "agent/datapath/pinned_view.h"
#include "cmd/egressctl/commands.h"
#include "cmd/egressctl/rules.h"

namespace egress::ctl {

namespace {

Result<std::vector<datapath::PodPolicy>> Read(const Options& options, const std::string& pod) {
  const auto view = datapath::PinnedView::Open(options.bpffs);
  if (!view) return view.error();
  if (pod.empty()) return view->Policies();
  auto one = view->PolicyOf(pod);
  if (!one) return std::move(one).error();
  if (!*one) return Error{"the maps in " + options.bpffs + " hold no pod " + pod + ": see egressctl pods"};
  return std::vector<datapath::PodPolicy>{**std::move(one)};
}

// What switches all pods of the node at once is no rule, but whoever looks at the rules has to know it.
void NoteSwitches(const std::vector<datapath::PodPolicy>& pods) {
  for (const datapath::PodPolicy& pod : pods) {
    if (pod.network.open) Complain(pod.pod.name() + ": enableEgress is on, so everything passes");
    if (pod.network.audit) Complain(pod.pod.name() + ": audit mode, so nothing is refused");
    if (pod.pod.state.unguarded != 0) {
      Complain(pod.pod.name() + ": its interface cannot be guarded, so it reaches only the mesh");
    }
  }
}

}  // namespace

int RulesCommand(const Options& options, const std::string& pod) {
  const auto pods = Read(options, pod);
  if (!pods) {
    Complain(pods.error().message);
    return kExitError;
  }
  const auto rows = RuleRows(*pods);
  if (options.format != Format::kTable) {
    WriteData(std::cout, options.format, rows);
    return kExitOk;
  }
  std::cout << RuleTable(rows);
  NoteSwitches(*pods);
  return kExitOk;
}

}  // namespace egress::ctl
