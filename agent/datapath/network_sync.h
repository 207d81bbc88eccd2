// NetworkSync: NetworkPolicy -> the maps networks, ports and config: what is not governed at all.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "agent/base/result.h"
#include "agent/datapath/kernel_object.h"
#include "agent/policy/compile.h"

namespace egress::datapath {

class NetworkSync {
 public:
  // Takes what is pinned for what is in force.
  explicit NetworkSync(const KernelObject& kernel);

  // As `network` says from `generation` on. An error leaves something that must not come into force unwritten:
  // the caller has to switch all pods to nothing.
  Result<void> Stage(std::uint32_t generation, const policy::NetworkPolicy& network);
  void Sweep();

 private:
  Result<void> StageNetworks(std::uint32_t generation, const std::vector<policy::NetworkRule>& next);
  Result<void> StagePorts(std::uint32_t generation, const std::vector<std::uint16_t>& next);

  const KernelObject& kernel_;
  BpfMap<network_key, struct network> networks_map_;
  BpfMap<__be16, struct network> ports_map_;
  std::map<Prefix, std::uint32_t> networks_;      // flags in force
  std::map<std::uint16_t, std::uint32_t> ports_;  // host order
  std::vector<Prefix> dead_networks_;
  std::vector<std::uint16_t> dead_ports_;
};

}  // namespace egress::datapath
