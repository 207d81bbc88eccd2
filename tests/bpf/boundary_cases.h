// Frames that the boundary refuses, each with a twin that passes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bpf/egress.h"
#include "tests/bpf/guarded_pod.h"

namespace egress::test {

struct DeniedFrame {
  std::string name;
  Packet packet;
  egress_protocol label = EGRESS_OTHER;
  egress_reason reason = EGRESS_REASON_PROTOCOL;
  // A frame that differs in one thing and passes. Without it the twin is the same frame to the mesh and to an excluded
  // range.
  std::optional<Packet> twin;
  bool answered = false;  // by a RST to the pod, instead of being dropped in silence
};

// For one family of addresses, to a destination outside the mesh.
std::vector<DeniedFrame> DeniedFrames(const Place& place);

}  // namespace egress::test
