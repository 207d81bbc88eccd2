// PinnedView: reads the pinned maps, without the agent and without changing anything. What egressctl shows of rules
// and pods, and what `explain` decides by, comes from here, so that it is what the kernel does, agent or not.
//
// The agent may write while this reads. A pod's view is taken under one generation and read again where that moved.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/policy/effective.h"
#include "bpf/egress.h"

namespace egress::datapath {

struct PinnedPod {
  std::uint64_t cookie = 0;  // of its network namespace
  struct pod pod = {};
  struct pod_state state = {};

  std::string name() const;             // NAMESPACE/NAME
  std::string service_account() const;  // NAMESPACE/NAME
  std::vector<Address> addresses() const;
};

// All that decides about one pod, under one generation.
struct PodPolicy {
  PinnedPod pod;
  std::vector<policy::PolicyPtr> policies;  // sorted by id
  policy::NetworkPolicy network;
};

struct PinnedMapUse {
  std::string map;
  std::uint64_t entries = 0;
  std::uint64_t capacity = 0;
};

class PinnedView {
 public:
  // `bpffs` is the folder of the pins. Fails where a map is missing or has another layout than egress.h.
  static Result<PinnedView> Open(const std::string& bpffs);

  // Sorted by name. Slots that are free are left out.
  Result<std::vector<PinnedPod>> Pods() const;

  // nullopt: no such pod is in the maps (not governed, or unknown).
  Result<std::optional<PodPolicy>> PolicyOf(const std::string& pod) const;

  // Of every governed pod, sorted by name; documents shared by pods are parsed once.
  Result<std::vector<PodPolicy>> Policies() const;

  Result<egress_config> Config() const;

  // Of the pinned maps whose entries can be counted.
  std::vector<PinnedMapUse> MapUse() const;

 private:
  struct Impl;
  explicit PinnedView(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace egress::datapath
