#include "cmd/egressd/pod_warnings.h"

#include <algorithm>
#include <map>

namespace egress::agent {
namespace {

bool InMesh(const policy::Settings& settings, const Address& address) {
  return std::any_of(settings.mesh_cidrs.begin(), settings.mesh_cidrs.end(),
                     [&address](const Prefix& prefix) { return prefix.Contains(address); });
}

bool IsLoopback(const Address& address) {
  return address == *ParseAddress("::1") || MakePrefix(*ParseAddress("127.0.0.0"), 104).Contains(address);
}

// The first pod that something concerns, and how many others.
struct Concerned {
  std::string first;
  int others = 0;

  void Add(const policy::Pod& pod) {
    if (first.empty()) {
      first = pod.id.ToString();
    } else {
      ++others;
    }
  }
  std::string ToString() const { return others == 0 ? first : first + " and " + std::to_string(others) + " more"; }
};

// dnsConfig and dnsPolicy tell only of servers that the pod itself names.
std::vector<Address> NamedByPod(const policy::Pod& pod) {
  std::vector<Address> named;
  for (const std::string& server : pod.name_servers) {
    if (const auto address = ParseAddress(server)) named.push_back(*address);
  }
  return named;
}

void CheckResolvers(const PodWarningInput& input, std::vector<std::string>& warnings) {
  const policy::Settings& settings = *input.settings;
  std::map<Address, Concerned> unreachable;
  for (const auto& view : input.pods) {
    if (!view.pod || !view.governed) continue;
    auto resolvers = input.resolvers(*view.pod);
    if (resolvers.empty()) resolvers = NamedByPod(*view.pod);
    std::sort(resolvers.begin(), resolvers.end());
    resolvers.erase(std::unique(resolvers.begin(), resolvers.end()), resolvers.end());
    for (const Address& resolver : resolvers) {
      const bool given =
          std::find(settings.dns_servers.begin(), settings.dns_servers.end(), resolver) != settings.dns_servers.end();
      if (!given && !IsLoopback(resolver) && !InMesh(settings, resolver)) unreachable[resolver].Add(*view.pod);
    }
  }
  for (const auto& [resolver, pods] : unreachable) {
    warnings.push_back(
        "the resolver " + resolver.ToString() + " of " + pods.ToString() +
        " is neither in meshCIDRs nor in dnsServers: names cannot be resolved there; add it to dnsServers");
  }
}

// That node addresses and Services are as they should be is looked at with the API's own objects (MeshWarnings).
void CheckMesh(const PodWarningInput& input, std::vector<std::string>& warnings) {
  const policy::Settings& settings = *input.settings;
  if (settings.mesh_cidrs.empty()) return;  // said elsewhere
  Concerned outside;
  Address example;
  for (const auto& view : input.pods) {
    if (!view.pod || view.pod->host_network) continue;
    const auto& addresses = view.pod->addresses;
    const auto missed = std::find_if(addresses.begin(), addresses.end(),
                                     [&settings](const Address& address) { return !InMesh(settings, address); });
    if (missed == addresses.end()) continue;
    outside.Add(*view.pod);
    example = *missed;
  }
  if (!outside.first.empty()) {
    warnings.push_back("meshCIDRs do not hold the address of " + outside.ToString() + " (" + example.ToString() +
                       "): governed pods do not reach it; add the cluster's pod network");
  }
}

bool HasOsmSidecar(const policy::Pod& pod) {
  const auto has = [&pod](const char* name) {
    return std::find(pod.containers.begin(), pod.containers.end(), name) != pod.containers.end();
  };
  return has("osm-init") && (has("envoy") || has("sidecar"));
}

void CheckContainers(const PodWarningInput& input, std::vector<std::string>& warnings) {
  Concerned sidecars;
  Concerned admins;
  for (const auto& view : input.pods) {
    if (!view.pod || !view.governed) continue;
    if (HasOsmSidecar(*view.pod)) {
      sidecars.Add(*view.pod);
    } else if (view.pod->net_admin && input.has_http_rules(*view.pod)) {
      admins.Add(*view.pod);
    }
  }
  if (!sidecars.first.empty()) {
    warnings.push_back("the sidecar of OSM is in " + sidecars.ToString() +
                       ": it makes the connections, so host and path rules meet its traffic; switch the injection off "
                       "and restart the pod");
  }
  if (!admins.first.empty()) {
    warnings.push_back(admins.ToString() +
                       " has CAP_NET_ADMIN and http rules: it can rewrite what the proxy sends from its namespace, so "
                       "these rules hold it to address and port only");
  }
}

}  // namespace

std::vector<std::string> PodWarnings(const PodWarningInput& input) {
  std::vector<std::string> warnings;
  CheckMesh(input, warnings);
  CheckResolvers(input, warnings);
  CheckContainers(input, warnings);
  return warnings;
}

}  // namespace egress::agent
