// What the entries of `routes`, `networks` and `ports` mean, once they have been read. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/policy/effective.h"
#include "bpf/egress.h"

namespace egress::datapath {

// One document of `routes`, put together from its chunks.
struct RouteDocument {
  std::uint32_t from = 0;
  std::uint32_t until = 0;
  policy::PolicyPtr policy;
};

class RouteDocuments {
 public:
  explicit RouteDocuments(std::vector<RouteDocument> documents) : documents_(std::move(documents)) {}

  // The policies of a ServiceAccount (NAMESPACE/NAME) that a pod at `generation` sees, sorted by id.
  std::vector<policy::PolicyPtr> InForce(std::uint32_t generation, const std::string& service_account) const;

 private:
  std::vector<RouteDocument> documents_;
};

// The documents that are in force at one of `generations`. Fails where one of these is not whole: it is being
// written or swept, read again.
Result<RouteDocuments> ReadDocuments(const std::vector<std::pair<route_key, route>>& chunks,
                                     const std::set<std::uint32_t>& generations);

// The text of the chunks of one policy id, in any order. nullopt: they are not one whole document.
std::optional<std::string> JoinChunks(std::vector<std::pair<route_key, route>> chunks);

// What entries of `networks` and `ports` mean for a pod at `generation`; the reverse of policy::CompileNetworks().
policy::NetworkPolicy NetworkPolicyAt(std::uint32_t generation,
                                      const std::vector<std::pair<network_key, network>>& networks,
                                      const std::vector<std::pair<__be16, network>>& ports);

// What is left to a pod that cannot be guarded.
void RestrictToMesh(policy::NetworkPolicy& network);

}  // namespace egress::datapath
