#include "agent/policy/index.h"

#include <algorithm>

#include "agent/policy/rank.h"

namespace egress::policy {

void ProtocolIndex::Add(const EffectivePolicy& policy, std::uint32_t number, bool named) {
  for (const Prefix& prefix : policy.cidrs) cover.At(prefix).Offer(number);
  if (!named) return;
  for (const std::string& host : policy.hosts) {
    hosts[host.starts_with("*.") ? host.substr(1) : host].push_back(number);
  }
}

Best ProtocolIndex::Covering(const Address& address) const {
  Best best;
  cover.ForEachCovering(address, [&](const Best& value) { best.Offer(value.policy); });
  return best;
}

PolicyIndex::Impl::Impl(std::vector<PolicyPtr> given) : policies(std::move(given)) {
  std::sort(policies.begin(), policies.end(), [](const auto& a, const auto& b) { return a->id < b->id; });
  std::vector<PolicyPtr> ranked = policies;
  std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return PreferredOver(*a, *b); });
  entries.reserve(ranked.size());
  for (const PolicyPtr& policy : ranked) {
    const auto number = static_cast<std::uint32_t>(entries.size());
    Entry entry{policy, AddressSet(policy->cidrs), {}};
    for (const HttpMatch& match : policy->routes) entry.routes.emplace_back(match);
    entries.push_back(std::move(entry));
    for (const Port& port : policy->ports) {
      PortIndex& index = ports[port.number];
      switch (port.protocol) {
        case Protocol::kHttp: index.http.Add(*policy, number, true); break;
        case Protocol::kHttps: index.https.Add(*policy, number, true); break;
        case Protocol::kTcp:
        case Protocol::kTcpServerFirst: index.tcp.Add(*policy, number, false); break;
      }
    }
  }
}

const PortIndex* PolicyIndex::Impl::Find(std::uint16_t port) const {
  const auto found = ports.find(port);
  return found == ports.end() ? nullptr : &found->second;
}

const std::string* PolicyIndex::Impl::Allows(const Entry& entry, std::string_view path,
                                             const HttpRequest& request) const {
  static const std::string kAll;
  if (entry.policy->all_routes) return MethodListed({}, request.method) ? &kAll : nullptr;
  for (const Route& route : entry.routes) {
    if (route.Matches(path, request)) return &route.name();
  }
  return nullptr;
}

}  // namespace egress::policy
