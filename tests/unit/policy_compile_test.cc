// Compile: from policies to what the kernel looks up.

#include "agent/policy/compile.h"

#include <gtest/gtest.h>

#include <chrono>

#include "bpf/egress.h"
#include "tests/unit/policy_interpreter.h"
#include "tests/unit/policy_manifests.h"

namespace egress::policy {
namespace {

EffectivePolicy Make(const std::string& name, std::vector<Port> ports, std::vector<const char*> cidrs,
                     std::vector<std::string> hosts = {}) {
  EffectivePolicy policy;
  policy.id = {"ns", name};
  policy.service_accounts = {{"ns", "sa"}};
  policy.ports = std::move(ports);
  for (const char* cidr : cidrs) policy.cidrs.push_back(Cidr(cidr));
  std::sort(policy.cidrs.begin(), policy.cidrs.end());
  policy.hosts = std::move(hosts);
  return policy;
}

PolicyPtr Share(EffectivePolicy policy) { return std::make_shared<const EffectivePolicy>(std::move(policy)); }

const RuleClass& At(const RuleSet& rules, std::string_view cidr, std::uint16_t port) {
  for (const PrefixRule& rule : rules.rules) {
    if (rule.port == port && rule.prefix == Cidr(cidr)) return rules.classes[rule.rule_class];
  }
  ADD_FAILURE() << "no rule for " << cidr;
  static const RuleClass none;
  return none;
}

TEST(Compile, NothingGivesNothing) { EXPECT_EQ(Compile({}), RuleSet()); }

TEST(Compile, LongerPrefixCarriesTheRulesOfTheShorter) {
  const std::vector<PolicyPtr> policies = {
      Share(Make("wide", {{443, Protocol::kTcp}}, {"198.51.100.0/24"})),
      Share(Make("narrow", {{443, Protocol::kHttps}}, {"198.51.100.0/28", "203.0.113.0/24"}, {"a.test"})),
      Share(Make("all", {{443, Protocol::kHttp}}, {"any"}, {"b.test"}))};
  const RuleSet rules = Compile(policies);
  EXPECT_EQ(At(rules, "any", 443).protocols, EGRESS_HTTP);
  EXPECT_EQ(At(rules, "198.51.100.0/24", 443).protocols, EGRESS_HTTP | EGRESS_TCP);
  EXPECT_EQ(At(rules, "198.51.100.0/28", 443).protocols, EGRESS_HTTP | EGRESS_TCP | EGRESS_HTTPS);
  EXPECT_EQ(At(rules, "203.0.113.0/24", 443).protocols, EGRESS_HTTP | EGRESS_HTTPS);
  EXPECT_EQ(rules.groups.size(), 1U) << "both prefixes of the list share its group";
  EXPECT_EQ(At(rules, "198.51.100.0/28", 443).groups, At(rules, "203.0.113.0/24", 443).groups);
  EXPECT_EQ(At(rules, "198.51.100.0/24", 443).groups.size(), 0U);
}

TEST(Compile, AllOfIpv6IsNoIpv4) {
  const RuleSet rules = Compile(std::vector{Share(Make("six", {{80, Protocol::kTcp}}, {"::/0"}))});
  EXPECT_NE(Lookup(rules, Ip("2001:db8::1"), 80), nullptr);
  EXPECT_EQ(Lookup(rules, Ip("198.51.100.7"), 80), nullptr);
  EXPECT_EQ(Lookup(rules, Ip("::ffff:198.51.100.7"), 80), nullptr) << "a mapped address is the IPv4 address";
}

TEST(Compile, PoliciesWithoutCidrsShareOneGroupAPort) {
  const RuleSet rules =
      Compile(std::vector{Share(Make("a", {{443, Protocol::kHttps}}, {"any"}, {"a.test", "*.b.test"})),
                          Share(Make("b", {{443, Protocol::kHttps}}, {"any"}, {"a.test", "c.test"}))});
  ASSERT_EQ(rules.groups.size(), 1U);
  const std::vector<HostGroup::Name> expected = {
      {".b.test", {"ns", "a"}}, {"a.test", {"ns", "a"}}, {"c.test", {"ns", "b"}}};
  EXPECT_EQ(rules.groups[0].names, expected);
}

TEST(Compile, ANameIsHeldToALimitOnlyWhereNobodyGrantsItWithout) {
  EffectivePolicy limited = Make("a", {{443, Protocol::kHttps}}, {"any"}, {"a.test", "b.test"});
  limited.limits.max_connections = 1;
  const RuleSet rules =
      Compile(std::vector{Share(limited), Share(Make("z", {{443, Protocol::kHttps}}, {"any"}, {"a.test"}))});
  const std::vector<HostGroup::Name> expected = {{"a.test", {"ns", "z"}}, {"b.test", {"ns", "a"}}};
  EXPECT_EQ(rules.groups[0].names, expected);
}

TEST(Compile, TheUnlimitedTcpPolicyStandsAloneAndOfLimitedOnesTheWidestAreKept) {
  std::vector<PolicyPtr> policies;
  for (std::uint32_t i = 1; i <= 6; ++i) {
    EffectivePolicy policy = Make("p" + std::to_string(i), {{80, Protocol::kTcp}}, {"any"});
    policy.limits.max_connections = i * 10;
    policies.push_back(Share(policy));
  }
  const RuleSet limited = Compile(policies);
  EXPECT_FALSE(limited.classes[0].tcp_unlimited);
  EXPECT_EQ(limited.classes[0].tcp_policies,
            (std::vector<ObjectId>{{"ns", "p6"}, {"ns", "p5"}, {"ns", "p4"}, {"ns", "p3"}}));
  policies.push_back(Share(Make("free", {{80, Protocol::kTcp}}, {"198.51.100.0/24"})));
  const RuleSet free = Compile(policies);
  EXPECT_FALSE(At(free, "any", 80).tcp_unlimited);
  EXPECT_TRUE(At(free, "198.51.100.0/24", 80).tcp_unlimited);
  EXPECT_EQ(At(free, "198.51.100.0/24", 80).tcp_policies, (std::vector<ObjectId>{{"ns", "free"}}));
}

// Every list covers 198.51.100.7, and each has an address of its own.
std::vector<PolicyPtr> Overlapping(int count) {
  std::vector<PolicyPtr> policies;
  for (int i = 0; i < count; ++i) {
    const std::string own = "203.0.113." + std::to_string(i) + "/32";
    std::vector<std::string> hosts;
    for (int j = 0; j <= i; ++j) hosts.push_back("h" + std::to_string(i) + "-" + std::to_string(j) + ".test");
    policies.push_back(Share(
        Make("p" + std::to_string(i), {{443, Protocol::kHttps}}, {"198.51.100.0/24", own.c_str()}, std::move(hosts))));
  }
  return policies;
}

TEST(Compile, SixteenGroupsOnOnePrefixAreNotMerged) {
  const RuleSet rules = Compile(Overlapping(EGRESS_MAX_GROUPS));
  EXPECT_EQ(At(rules, "198.51.100.0/24", 443).groups.size(), static_cast<std::size_t>(EGRESS_MAX_GROUPS));
  EXPECT_EQ(rules.groups.size(), static_cast<std::size_t>(EGRESS_MAX_GROUPS));
}

TEST(Compile, MoreGroupsAreMergedWithoutWideningAnyPrefix) {
  constexpr int kCount = 40;
  const RuleSet rules = Compile(Overlapping(kCount));
  const RuleClass& shared = At(rules, "198.51.100.0/24", 443);
  EXPECT_EQ(shared.groups.size(), static_cast<std::size_t>(EGRESS_MAX_GROUPS));
  for (int i = 0; i < kCount; ++i) {
    const std::string name = "h" + std::to_string(i) + "-0.test";
    EXPECT_NE(FindName(rules, shared, name), nullptr) << name;
    const RuleClass& own = At(rules, "203.0.113." + std::to_string(i) + "/32", 443);
    EXPECT_NE(FindName(rules, own, name), nullptr);
    EXPECT_EQ(FindName(rules, own, "h" + std::to_string((i + 1) % kCount) + "-0.test"), nullptr);
  }
}

TEST(Compile, AMergedGroupIsNeverTheGroupOfAListThatSomebodyWrote) {
  // The union of all lists, written as one list, has an address to itself.
  std::vector<PolicyPtr> policies = Overlapping(20);
  EffectivePolicy all = Make("all", {{443, Protocol::kHttps}}, {"198.51.100.0/24"}, {"all.test"});
  for (int i = 0; i < 20; ++i) all.cidrs.push_back(Cidr("203.0.113." + std::to_string(i) + "/32"));
  std::sort(all.cidrs.begin(), all.cidrs.end());
  policies.push_back(Share(all));
  const RuleSet rules = Compile(policies);
  for (std::size_t i = 1; i < rules.groups.size(); ++i) EXPECT_LT(rules.groups[i - 1].cidrs, rules.groups[i].cidrs);
  const RuleClass& own = At(rules, "203.0.113.3/32", 443);
  EXPECT_NE(FindName(rules, own, "all.test"), nullptr);
  EXPECT_EQ(FindName(rules, own, "h4-0.test"), nullptr);
}

TEST(Compile, GroupsThatNestAreMergedLevelByLevel) {
  // 20 lists around, then 20 more on a prefix inside: more than the limit on both levels.
  std::vector<PolicyPtr> policies = Overlapping(20);
  for (int i = 0; i < 20; ++i) {
    const std::string own = "192.0.2." + std::to_string(i) + "/32";
    policies.push_back(Share(Make("in" + std::to_string(i), {{443, Protocol::kHttps}}, {"198.51.100.7/32", own.c_str()},
                                  {"in" + std::to_string(i) + ".test"})));
  }
  const RuleSet rules = Compile(policies);
  const RuleClass& inner = At(rules, "198.51.100.7/32", 443);
  EXPECT_LE(inner.groups.size(), static_cast<std::size_t>(EGRESS_MAX_GROUPS));
  for (int i = 0; i < 20; ++i) {
    EXPECT_NE(FindName(rules, inner, "in" + std::to_string(i) + ".test"), nullptr);
    EXPECT_NE(FindName(rules, inner, "h" + std::to_string(i) + "-0.test"), nullptr);
    EXPECT_EQ(FindName(rules, At(rules, "198.51.100.0/24", 443), "in" + std::to_string(i) + ".test"), nullptr);
  }
}

double Milliseconds(const std::vector<PolicyPtr>& policies) {
  const auto start = std::chrono::steady_clock::now();
  const RuleSet rules = Compile(policies);
  EXPECT_FALSE(rules.rules.empty());
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// Bounds are ten times what an idle machine takes: they catch what is quadratic, not what is slow.
TEST(Compile, ManyPoliciesAndManyCidrsAreCompiledInLinearTime) {
  std::vector<PolicyPtr> policies;
  std::vector<PolicyPtr> spread;
  for (int i = 0; i < 10000; ++i) {
    const std::string name = std::to_string(i);
    const std::string cidr = "10." + std::to_string(i / 256) + "." + std::to_string(i % 256) + ".0/24";
    policies.push_back(Share(Make(name, {{80, Protocol::kHttp}, {443, Protocol::kHttps}}, {"any"}, {name + ".test"})));
    spread.push_back(Share(Make(name, {{80, Protocol::kHttp}, {443, Protocol::kHttps}, {500, Protocol::kTcp}},
                                {"0.0.0.0/0", cidr.c_str()}, {name + ".test"})));
  }
  EffectivePolicy big = Make("big", {{443, Protocol::kHttps}, {80, Protocol::kTcp}}, {}, {"a.test"});
  for (int i = 0; i < 100000; ++i) {
    Address address = Ip("10.0.0.0");
    address.bytes[13] = static_cast<std::uint8_t>(i >> 16);
    address.bytes[14] = static_cast<std::uint8_t>(i >> 8);
    address.bytes[15] = static_cast<std::uint8_t>(i);
    big.cidrs.push_back(MakePrefix(address, 128));
  }
  const double one_port = Milliseconds(policies);
  const double overlapping = Milliseconds(spread);
  const double many_cidrs = Milliseconds({Share(big)});
  RecordProperty("policies_without_cidrs_ms", std::to_string(one_port));
  RecordProperty("policies_with_cidrs_ms", std::to_string(overlapping));
  RecordProperty("one_policy_with_many_cidrs_ms", std::to_string(many_cidrs));
  EXPECT_LT(one_port, 1000);
  EXPECT_LT(overlapping, 3000);
  EXPECT_LT(many_cidrs, 3000);
}

TEST(CompileNetworks, LongestPrefixHasTheWholeAnswer) {
  NetworkPolicy network;
  network.mesh = {Cidr("10.0.0.0/8")};
  network.excluded = {Cidr("10.96.0.0/12"), Cidr("203.0.113.0/24")};
  network.dns_servers = {Ip("203.0.113.53")};
  const std::vector<NetworkRule> expected = {{Cidr("10.0.0.0/8"), EGRESS_NET_MESH},
                                             {Cidr("10.96.0.0/12"), EGRESS_NET_MESH | EGRESS_NET_EXCLUDED},
                                             {Cidr("203.0.113.0/24"), EGRESS_NET_EXCLUDED},
                                             {Cidr("203.0.113.53/32"), EGRESS_NET_EXCLUDED | EGRESS_NET_DNS}};
  EXPECT_EQ(CompileNetworks(network), expected);
}

TEST(CompileNetworks, AnInclusionListExcludesTheRestAndExclusionWins) {
  NetworkPolicy network;
  network.included = {Cidr("198.51.100.0/24")};
  network.excluded = {Cidr("198.51.100.66/32")};
  const std::vector<NetworkRule> expected = {{Cidr("any"), EGRESS_NET_EXCLUDED},
                                             {Cidr("198.51.100.0/24"), 0},
                                             {Cidr("198.51.100.66/32"), EGRESS_NET_EXCLUDED}};
  EXPECT_EQ(CompileNetworks(network), expected);
  EXPECT_TRUE(CompileNetworks({}).empty()) << "without lists everything is governed";
}

}  // namespace
}  // namespace egress::policy
