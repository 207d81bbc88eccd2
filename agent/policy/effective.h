// EffectivePolicy: what one valid Egress grants once its references are resolved. The unit that compilation,
// Decide(), the proxy and the pinned `routes` map share; immutable, compared by value.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/policy/model.h"

namespace egress::policy {

struct EffectivePolicy {
  ObjectId id;                                   // of the Egress
  std::vector<ServiceAccount> service_accounts;  // sorted
  std::vector<Port> ports;                       // sorted, no duplicates; tcp-server-first kept as such
  std::vector<Prefix> cidrs;                     // sorted; {any} where the Egress has none: never empty
  std::vector<std::string> hosts;                // sorted
  bool all_routes = true;                        // no HTTPRouteGroup referenced: every request
  std::vector<HttpMatch> routes;                 // of all groups that exist; empty and !all_routes: 404
  Limits limits;
  auto operator<=>(const EffectivePolicy&) const = default;
};

using PolicyPtr = std::shared_ptr<const EffectivePolicy>;

// The JSON document of `routes`, and back. Keys: policy, serviceAccounts, ports[{number, protocol}], cidrs, hosts,
// routes (null: all; else [{name, path, methods, headers[[name, regex]]}]), limits.
std::string ToDocument(const EffectivePolicy& policy);
Result<EffectivePolicy> FromDocument(std::string_view document);

// What applies to every pod alike: from the configuration and MeshConfig.
struct NetworkPolicy {
  std::vector<Prefix> mesh;
  std::vector<Prefix> excluded;
  std::vector<Prefix> included;  // empty: all are governed
  std::vector<Address> dns_servers;
  std::vector<std::uint16_t> excluded_ports;  // sorted
  bool open = false;                          // enableEgress
  bool policies_enabled = true;               // enableEgressPolicy
  bool other_protocols_allowed = false;
  bool audit = false;
  auto operator<=>(const NetworkPolicy&) const = default;
};

}  // namespace egress::policy
