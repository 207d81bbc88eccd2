// The plugin's own program at the node's side of a pod's veth (bpf/cni_deny.bpf.c).
#pragma once

#include <span>

#include "agent/base/result.h"
#include "agent/cni/request.h"
#include "cmd/egress-cni/veth.h"

namespace egress::cni {

// Attaches it until the agent removes it or the interface goes: by whichever of tcx (Linux 6.6) and clsact there is, first
// in the chain. It needs no pins and no file. Lets the pod reach `mesh` (of which EGRESS_CNI_NETWORKS at most are taken: the
// others are denied).
Result<void> AttachDeny(const Veth& veth, const Request& about, std::span<const Prefix> mesh);

}  // namespace egress::cni
