// The programs that egress-cni has left on interfaces (bpf/cni_deny.bpf.c): found by their name, taken away by the agent.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace egress::datapath {

struct DeniedInterface {
  int ifindex = 0;
  std::string name;
  std::string about;  // text of agent/cni/request.h: whose it is; empty where it cannot be read
};

// Those of the caller's network namespace.
Result<std::vector<DeniedInterface>> FindCniDeny();

// Takes it off the interface: to be called once the pod's own programs are there, or where it needs none. False: it was
// not there.
Result<bool> RemoveCniDeny(int ifindex);

bool IsCniDeny(std::uint32_t program);  // by its id

}  // namespace egress::datapath
