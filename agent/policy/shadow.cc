#include "agent/policy/shadow.h"

#include <array>
#include <map>
#include <optional>

#include "agent/policy/prefix_table.h"
#include "agent/policy/report.h"

namespace egress::policy {
namespace {

// Two policies a prefix are enough to find one that is another.
using Two = std::array<const EffectivePolicy*, 2>;
using PolicyTable = PrefixTable<Two>;

void AddAll(const EffectivePolicy& policy, PolicyTable* table) {
  for (const Prefix& prefix : policy.cidrs) {
    Two& two = table->At(prefix);
    if (two[0] == &policy || two[1] != nullptr) continue;
    two[two[0] == nullptr ? 0 : 1] = &policy;
  }
}

bool IsRaw(Protocol protocol) { return protocol == Protocol::kTcp || protocol == Protocol::kTcpServerFirst; }

struct PortRules {
  PolicyTable raw;
  PolicyTable plain;
  std::vector<std::pair<const EffectivePolicy*, Protocol>> named;  // http and https
};

// A CIDR of `policy` that a rule of another policy in `table` covers, with that policy.
std::optional<std::pair<Prefix, const EffectivePolicy*>> Covered(const EffectivePolicy& policy,
                                                                 const PolicyTable& table) {
  for (const Prefix& prefix : policy.cidrs) {
    const EffectivePolicy* other = nullptr;
    table.ForEachCovering(prefix, [&](const Two& two) {
      for (const EffectivePolicy* candidate : two) {
        if (candidate != nullptr && candidate != &policy) other = candidate;
      }
    });
    if (other != nullptr) return std::pair(prefix, other);
  }
  return std::nullopt;
}

class Finder {
 public:
  explicit Finder(const std::function<const Object*(const ObjectId&)>& egress_of) : egress_of_(egress_of) {}

  void Check(std::uint16_t number, const PortRules& rules) {
    for (const auto& [policy, protocol] : rules.named) {
      const std::string port = std::to_string(number);
      if (const auto raw = Covered(*policy, rules.raw)) {
        Add(*policy, {number, protocol},
            std::string("the ") + ProtocolName(protocol) + " rule on port " + port + " (" + raw->first.ToString() +
                ") is shadowed by a tcp rule of Egress " + raw->second->id.ToString() +
                ", which allows any bytes there; remove one of them");
      } else if (protocol == Protocol::kHttps) {
        const auto plain = Covered(*policy, rules.plain);
        if (!plain) continue;
        Add(*policy, {number, protocol},
            "http and https on one port, " + port + " (http: Egress " + plain->second->id.ToString() +
                "): all its connections take the detour through the proxy; use two ports where you can");
      }
    }
  }

  std::vector<Finding> Take() { return std::move(findings_); }

 private:
  void Add(const EffectivePolicy& policy, const Port& port, std::string message) {
    const Object* object = egress_of_(policy.id);
    if (object == nullptr) return;
    for (const auto& [listed, place] : std::get<Egress>(object->model).ports) {
      if (listed != port) continue;
      Report report(object->location.file, "Egress", object->key.id);
      report.Warning(place.line, ItemPath("spec.ports", place.index) + ".protocol", std::move(message));
      findings_.push_back(std::move(report.Take().front()));
      return;
    }
  }

  const std::function<const Object*(const ObjectId&)>& egress_of_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> FindShadows(std::span<const PolicyPtr> policies,
                                 const std::function<const Object*(const ObjectId&)>& egress_of) {
  std::map<std::uint16_t, PortRules> ports;
  for (const PolicyPtr& policy : policies) {
    for (const Port& port : policy->ports) {
      PortRules& rules = ports[port.number];
      if (IsRaw(port.protocol)) {
        AddAll(*policy, &rules.raw);
      } else {
        if (port.protocol == Protocol::kHttp) AddAll(*policy, &rules.plain);
        rules.named.emplace_back(policy.get(), port.protocol);
      }
    }
  }
  Finder finder(egress_of);
  for (const auto& [number, rules] : ports) {
    if (!rules.raw.empty() || !rules.plain.empty()) finder.Check(number, rules);
  }
  return finder.Take();
}

}  // namespace egress::policy
