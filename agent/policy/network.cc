// The networks of the kernel: mesh, exclusions, name servers, flattened.

#include <algorithm>
#include <tuple>

#include "agent/policy/compile.h"
#include "bpf/egress.h"

namespace egress::policy {
namespace {

enum Source : std::uint8_t { kMesh = 1, kExcluded = 2, kIncluded = 4, kDns = 8 };

struct Item {
  Prefix prefix;
  std::uint8_t sources = 0;
};

std::vector<Item> Collect(const NetworkPolicy& network) {
  std::vector<Item> items;
  for (const Prefix& prefix : network.mesh) items.push_back({prefix, kMesh});
  for (const Prefix& prefix : network.excluded) items.push_back({prefix, kExcluded});
  for (const Prefix& prefix : network.included) items.push_back({prefix, kIncluded});
  for (const Address& address : network.dns_servers) items.push_back({MakePrefix(address, 128), kDns});
  if (!network.included.empty()) items.push_back({Prefix{}, 0});
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return std::tie(a.prefix.family, a.prefix.address, a.prefix.length) <
           std::tie(b.prefix.family, b.prefix.address, b.prefix.length);
  });
  return items;
}

}  // namespace

std::vector<NetworkRule> CompileNetworks(const NetworkPolicy& network) {
  std::vector<NetworkRule> rules;
  std::vector<Item> enclosing;
  const std::vector<Item> items = Collect(network);
  for (std::size_t from = 0; from < items.size();) {
    Item all{items[from].prefix, 0};
    for (; from < items.size() && items[from].prefix == all.prefix; ++from) all.sources |= items[from].sources;
    while (!enclosing.empty() && !enclosing.back().prefix.Contains(all.prefix)) enclosing.pop_back();
    if (!enclosing.empty()) all.sources |= enclosing.back().sources;
    enclosing.push_back(all);
    const bool outside = !network.included.empty() && (all.sources & kIncluded) == 0;
    std::uint32_t flags = 0;
    if ((all.sources & kMesh) != 0) flags |= EGRESS_NET_MESH;
    if ((all.sources & kExcluded) != 0 || outside) flags |= EGRESS_NET_EXCLUDED;
    if ((all.sources & kDns) != 0) flags |= EGRESS_NET_DNS;
    rules.push_back({all.prefix, flags});
  }
  std::sort(rules.begin(), rules.end());
  return rules;
}

}  // namespace egress::policy
