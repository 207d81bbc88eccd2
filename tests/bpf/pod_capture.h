// PodCapture: what arrives at the pod's own interface.
#pragma once

#include <optional>

#include "agent/base/fd.h"
#include "tests/bpf/guarded_pod.h"

namespace egress::test {

class PodCapture {
 public:
  explicit PodCapture(GuardedPod& pod);

  // The next TCP frame that arrives; nullopt where none comes within five seconds. Other frames (the pod's kernel
  // speaks IPv6 on its own) are passed over.
  std::optional<Bytes> NextTcp();

 private:
  Fd socket_;
};

}  // namespace egress::test
