// --uninstall: nothing of egressd is left on the node.
#pragma once

#include "agent/base/result.h"
#include "cmd/egressd/options.h"

namespace egress::agent {

// Takes off every program and pin, egress-cni, and the folders of run time. Refused while an agent runs. An error names
// what could not be removed; what comes after it is still there then.
Result<void> Uninstall(const Options& options);

}  // namespace egress::agent
