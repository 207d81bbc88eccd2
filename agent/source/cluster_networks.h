// What a cluster says of its own networks, to be compared with meshCIDRs.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/address.h"
#include "agent/source/http_client.h"

namespace egress::source {

struct ClusterNetworks {
  std::vector<std::pair<std::string, Prefix>> pod_cidrs;        // with the node that has it
  std::vector<std::pair<std::string, Address>> node_addresses;  // InternalIP and ExternalIP
  std::vector<Prefix> service_cidrs;        // of ServiceCIDR objects (Kubernetes 1.33); empty where there are none
  std::vector<Address> kubernetes_service;  // addresses of the Service default/kubernetes
};

// Of the nodes the first few hundred are read. What cannot be read is empty.
void ReadClusterNetworks(HttpClient& http, std::function<void(ClusterNetworks)> done);

// meshCIDRs as they would cover all that is known, widened to what clusters usually have.
std::vector<Prefix> ProbableMesh(const ClusterNetworks& networks);

// In words: addresses of nodes that `mesh` covers, and what it misses. One line each, not one for every node.
std::vector<std::string> MeshWarnings(const ClusterNetworks& networks, const std::vector<Prefix>& mesh);

}  // namespace egress::source
