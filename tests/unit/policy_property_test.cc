// Properties over random policies: taking away never adds, and Compile() and PolicyIndex say the same.

#include <gtest/gtest.h>

#include "agent/policy/compile.h"
#include "agent/policy/decide.h"
#include "tests/unit/policy_interpreter.h"
#include "tests/unit/policy_random.h"

namespace egress::policy {
namespace {

struct Probe {
  Address address;
  std::uint16_t port;
  std::string sni;
  RandomPolicies::Request request;
};

Decision Judge(const PolicyIndex& index, const Probe& probe) {
  std::vector<std::pair<std::string_view, std::string_view>> headers;
  for (const auto& [name, value] : probe.request.headers) headers.emplace_back(name, value);
  return index.Http(probe.address, probe.port,
                    {probe.request.method, probe.request.authority, probe.request.path, headers});
}

Probe AnyProbe(RandomPolicies* random) {
  Probe probe{random->AnyAddress(), random->AnyPort(), random->AnyName(), {}};
  probe.request = random->AnyRequest(probe.port);
  return probe;
}

TEST(Property, TakingPartsAwayNeverGrowsWhatIsAllowed) {
  RandomPolicies random(20240601);
  int allowed = 0;
  int judged = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto more = random.Policies(1 + random.Below(5));
    const auto less = random.Less(more);
    const PolicyIndex with(Shared(more));
    const PolicyIndex without(Shared(less));
    for (int i = 0; i < 30; ++i) {
      const Probe probe = AnyProbe(&random);
      const auto before = with.Connect({}, probe.address, probe.port);
      const auto after = without.Connect({}, probe.address, probe.port);
      const bool tls_before = before.allowed && with.Tls({}, probe.address, probe.port, probe.sni).allowed;
      const bool tls_after = after.allowed && without.Tls({}, probe.address, probe.port, probe.sni).allowed;
      const bool http_before = before.allowed && Judge(with, probe).allowed;
      const bool http_after = after.allowed && Judge(without, probe).allowed;
      ASSERT_TRUE(before.allowed || !after.allowed);
      ASSERT_TRUE(before.any_bytes || !after.any_bytes);
      ASSERT_TRUE(tls_before || !tls_after) << probe.sni;
      ASSERT_TRUE(http_before || !http_after) << probe.request.authority << probe.request.path;
      judged += 2;
      allowed += static_cast<int>(tls_before) + static_cast<int>(http_before);
    }
  }
  EXPECT_GT(allowed, judged / 5) << "the flows must hit the rules, else nothing is shown";
}

TEST(Property, CompiledRulesAndIndexAgree) {
  RandomPolicies random(7);
  int allowed = 0;
  int judged = 0;
  for (int round = 0; round < 3000; ++round) {
    // Now and then enough CIDR lists to merge host groups.
    const auto policies = Shared(random.Policies(1 + random.Below(round % 10 == 0 ? 80 : 6)));
    const PolicyIndex index(policies);
    const RuleSet rules = Compile(policies);
    for (int i = 0; i < 30; ++i) {
      const Probe probe = AnyProbe(&random);
      const RuleClass* rule_class = Lookup(rules, probe.address, probe.port);
      const ConnectDecision connect = index.Connect({}, probe.address, probe.port);
      ASSERT_EQ(rule_class != nullptr && rule_class->protocols != 0, connect.allowed);
      if (!connect.allowed) continue;
      ASSERT_EQ((rule_class->protocols & EGRESS_TCP) != 0, connect.any_bytes);
      if (connect.any_bytes) {
        ASSERT_FALSE(rule_class->tcp_policies.empty());
        ASSERT_EQ(rule_class->tcp_policies.front(), *connect.policy);
        ASSERT_EQ(rule_class->tcp_unlimited, !index.LimitsOf(*connect.policy)->max_connections.has_value());
        continue;
      }
      ASSERT_EQ(rule_class->protocols, connect.protocols);
      if ((connect.protocols & EGRESS_HTTPS) == 0) continue;
      const ObjectId* compiled = FindName(rules, *rule_class, probe.sni);
      const Decision tls = index.Tls({}, probe.address, probe.port, probe.sni);
      ASSERT_EQ(compiled != nullptr, tls.allowed) << probe.sni;
      ++judged;
      allowed += static_cast<int>(tls.allowed);
    }
  }
  EXPECT_GT(judged, 5000);
  EXPECT_GT(allowed, judged / 6);
}

TEST(Property, EqualPoliciesInAnyOrderCompileToEqualRules) {
  RandomPolicies random(11);
  for (int round = 0; round < 300; ++round) {
    auto policies = Shared(random.Policies(1 + random.Below(40)));
    const RuleSet rules = Compile(policies);
    std::shuffle(policies.begin(), policies.end(), std::mt19937_64(round));
    ASSERT_EQ(Compile(policies), rules);
    for (const RuleClass& rule_class : rules.classes) {
      ASSERT_LE(rule_class.groups.size(), static_cast<std::size_t>(EGRESS_MAX_GROUPS));
      ASSERT_LE(rule_class.tcp_policies.size(), static_cast<std::size_t>(EGRESS_MAX_TCP_POLICIES));
    }
  }
}

}  // namespace
}  // namespace egress::policy
