// Fuzzes what reads manifests and the configuration: text -> objects -> policies -> the kernel's rules. Input: two
// files, apart by a NUL. Nothing of it may depend on the order in which they are read, or on when; what is granted goes
// with the files, and a policy is the same once it has been in the map of documents.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "agent/policy/compile.h"
#include "agent/policy/effective.h"
#include "agent/policy/settings.h"
#include "agent/policy/store.h"

namespace {

using namespace egress::policy;

constexpr std::string_view kNamespace =
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: curl\n  labels: {openservicemesh.io/monitored-by: osm}\n";

void Require(bool holds) {
  if (!holds) std::abort();
}

// What follows from the files for one ServiceAccount or all.
struct Outcome {
  Store store{Settings{}};
  Changes changes;

  Outcome(std::string_view first, std::string_view second, bool turned) {
    store.SetUnit("namespace.yaml", kNamespace);
    store.SetUnit(turned ? "b.yaml" : "a.yaml", turned ? second : first);
    store.SetUnit(turned ? "a.yaml" : "b.yaml", turned ? first : second);
    changes = store.Commit();
    Require(store.Commit().empty());
  }
};

std::vector<EffectivePolicy> Values(const std::vector<PolicyPtr>& policies) {
  std::vector<EffectivePolicy> values;
  for (const PolicyPtr& policy : policies) values.push_back(*policy);
  return values;
}

void CheckPolicies(const std::vector<PolicyPtr>& policies) {
  for (const PolicyPtr& policy : policies) {
    Require(policy != nullptr && !policy->cidrs.empty() && !policy->service_accounts.empty());
    const auto again = FromDocument(ToDocument(*policy));
    Require(again.ok() && *again == *policy);
  }
  const RuleSet rules = Compile(policies);
  Require(rules == Compile(policies));
  for (const PrefixRule& rule : rules.rules) Require(rule.rule_class < rules.classes.size());
  for (const RuleClass& one : rules.classes) {
    for (const std::uint32_t group : one.groups) Require(group < rules.groups.size());
  }
}

void CheckManifests(std::string_view first, std::string_view second) {
  Outcome one(first, second, false);
  Outcome other(first, second, true);
  Require(one.changes.service_accounts == other.changes.service_accounts);
  Require(one.store.Findings() == other.store.Findings());
  Require(one.store.Network() == other.store.Network());
  for (const ServiceAccount& account : one.changes.service_accounts) {
    const auto policies = one.store.PoliciesOf(account);
    Require(Values(policies) == Values(other.store.PoliciesOf(account)));
    CheckPolicies(policies);
  }
  (void)CompileNetworks(one.store.Network());
  one.store.SetUnit("a.yaml", first);
  one.store.Commit();
  Require(one.store.Findings() == other.store.Findings());
  for (const ServiceAccount& account : one.changes.service_accounts) {
    Require(Values(one.store.PoliciesOf(account)) == Values(other.store.PoliciesOf(account)));
  }
  one.store.RemoveUnit("a.yaml");
  one.store.RemoveUnit("b.yaml");
  one.store.Commit();
  for (const ServiceAccount& account : one.changes.service_accounts) Require(one.store.PoliciesOf(account).empty());
  Require(one.store.Findings().empty() && one.store.EgressCount().invalid == 0);
}

void CheckConfig(std::string_view text) {
  std::vector<Finding> findings;
  const auto config = ParseConfig("config.yaml", text, &findings);
  bool errors = false;
  for (const Finding& finding : findings) {
    errors |= finding.severity == Severity::kError;
    Require(!finding.message.empty() && !finding.ToString().empty());
  }
  Require(config.ok() == !errors);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = text.find('\0');
  const std::string_view first = text.substr(0, cut);
  CheckConfig(first);
  CheckManifests(first, cut == std::string_view::npos ? std::string_view() : text.substr(cut + 1));
  return 0;
}
