// The plugin's own program at the node's side of a pod's veth (bpf/cni_deny.bpf.c).
#pragma once

#include <span>

#include "agent/base/fd.h"
#include "agent/base/result.h"
#include "agent/cni/request.h"
#include "cmd/egress-cni/veth.h"

namespace egress::cni {

// Attached until it is removed or the interface goes: by whichever of tcx (Linux 6.6) and clsact there is, first in the
// chain. It needs no pins and no file.
class Deny {
 public:
  // Lets the pod reach `mesh` (of which EGRESS_CNI_NETWORKS at most are taken: the others are denied).
  static Result<Deny> Attach(const Veth& veth, const Request& about, std::span<const Prefix> mesh);
  Result<void> Remove();

 private:
  Deny(Fd program, int ifindex, bool tcx) : program_(std::move(program)), ifindex_(ifindex), tcx_(tcx) {}
  Fd program_;
  int ifindex_ = 0;
  bool tcx_ = true;
};

}  // namespace egress::cni
