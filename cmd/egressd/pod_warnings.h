// What is probably not meant: pods and settings that do not fit together. Shown by `egressctl status`; changes nothing.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "agent/policy/store.h"

namespace egress::agent {

struct PodWarningInput {
  std::vector<policy::Store::PodView> pods;  // of this node
  const policy::Settings* settings = nullptr;
  // The resolvers in the pod's resolv.conf as the runtime was told to write it; empty where that is not known.
  std::function<std::vector<Address>(const policy::Pod&)> resolvers;
  // Has the pod a rule of protocol http?
  std::function<bool(const policy::Pod&)> has_http_rules;
};

// One line for each thing to mend, with the setting that does; what concerns many pods names one of them.
//
// - A governed pod's resolver that is neither in meshCIDRs nor in dnsServers.
// - meshCIDRs that do not hold the address of a pod.
// - The sidecar of OSM in a governed pod.
// - CAP_NET_ADMIN in a pod with http rules.
std::vector<std::string> PodWarnings(const PodWarningInput& input);

}  // namespace egress::agent
