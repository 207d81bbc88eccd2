// Policies in shards decide as one.
#include <gtest/gtest.h>

#include "agent/proxy/policy_set.h"

namespace egress::proxy {
namespace {

const Address kAddress = *ParseAddress("192.0.2.1");

policy::PolicyPtr MakePolicy(const std::string& name, const std::string& host, std::uint32_t max_connections = 0) {
  policy::EffectivePolicy policy;
  policy.id = {"curl", name};
  policy.service_accounts = {{"curl", "curl"}};
  policy.ports = {{80, policy::Protocol::kHttp}};
  policy.cidrs = {Prefix{}};
  policy.hosts = {host};
  if (max_connections > 0) policy.limits.max_connections = max_connections;
  return std::make_shared<const policy::EffectivePolicy>(policy);
}

void Set(PolicySetBuilder* builder, const std::string& name, const std::string& host, std::uint32_t most = 0) {
  builder->Set({"curl", name}, MakePolicy(name, host, most));
}

SetDecision Ask(const PolicySet& set, std::string_view host) {
  return set.Http(kAddress, 80, {.method = "GET", .authority = host, .path = "/", .headers = {}});
}

TEST(PolicySet, ThousandsOfPoliciesDecideAsOne) {
  PolicySetBuilder builder;
  constexpr int kCount = 5000;
  for (int i = 0; i < kCount; ++i) Set(&builder, "p" + std::to_string(i), "h" + std::to_string(i) + ".test");
  std::shared_ptr<const PolicySet> set = builder.Build();
  for (int i = 0; i < kCount; i += 7) {
    const SetDecision made = Ask(*set, "h" + std::to_string(i) + ".test");
    ASSERT_TRUE(made.decision.allowed) << i;
    ASSERT_EQ(made.decision.policy->name, "p" + std::to_string(i));
  }
  EXPECT_EQ(Ask(*set, "other.test").decision.reason, EGRESS_REASON_HTTP_HOST);
}

// Behind NAT64: one policy covers the IPv6 address and another the IPv4 one, wherever they are kept.
TEST(PolicySet, EachFormOfAnAddressIsAllowedByTheUnion) {
  PolicySetBuilder builder;
  for (int i = 0; i < 3000; ++i) Set(&builder, "p" + std::to_string(i), "h" + std::to_string(i) + ".test");
  const auto add = [&](const std::string& name, const std::string& cidr) {
    policy::EffectivePolicy policy = *MakePolicy(name, "forms.test");
    policy.cidrs = {*ParsePrefix(cidr)};
    builder.Set(policy.id, std::make_shared<const policy::EffectivePolicy>(policy));
    return builder.Build();
  };
  const auto ask = [](const PolicySet& set, const char* address) {
    return set
        .Http(*ParseAddress(address), 80, {.method = "GET", .authority = "forms.test", .path = "/", .headers = {}})
        .decision.allowed;
  };
  const auto six = add("six", "::/0");
  EXPECT_FALSE(ask(*six, "64:ff9b::c633:6407"));
  EXPECT_TRUE(ask(*six, "2001:db8::7"));
  const auto both = add("four", "198.51.100.0/24");
  EXPECT_TRUE(ask(*both, "64:ff9b::c633:6407"));
  EXPECT_FALSE(ask(*both, "64:ff9b::cb00:7109"));
}

TEST(PolicySet, AChangeIsSeenInTheNextBuildAndNotInTheOneBefore) {
  PolicySetBuilder builder;
  for (int i = 0; i < 3000; ++i) Set(&builder, "p" + std::to_string(i), "h" + std::to_string(i) + ".test");
  const std::shared_ptr<const PolicySet> before = builder.Build();
  Set(&builder, "p5", "new.test");
  builder.Remove({"curl", "p6"});
  const std::shared_ptr<const PolicySet> after = builder.Build();
  for (const char* host : {"h5.test", "h6.test"}) {
    EXPECT_TRUE(Ask(*before, host).decision.allowed) << host;
    EXPECT_FALSE(Ask(*after, host).decision.allowed) << host;
  }
  EXPECT_FALSE(Ask(*before, "new.test").decision.allowed);
  EXPECT_TRUE(Ask(*after, "new.test").decision.allowed);
  EXPECT_TRUE(Ask(*after, "h7.test").decision.allowed);
}

TEST(PolicySet, RemovingMostKeepsTheRest) {
  PolicySetBuilder builder;
  for (int i = 0; i < 5000; ++i) Set(&builder, "p" + std::to_string(i), "h" + std::to_string(i) + ".test");
  for (int i = 1; i < 5000; ++i) builder.Remove({"curl", "p" + std::to_string(i)});
  const std::shared_ptr<const PolicySet> set = builder.Build();
  EXPECT_TRUE(Ask(*set, "h0.test").decision.allowed);
  EXPECT_FALSE(Ask(*set, "h1.test").decision.allowed);
}

TEST(PolicySet, OfSeveralThatAllowOneWithoutLimitsIsNamed) {
  PolicySetBuilder builder;
  for (int i = 0; i < 3000; ++i) Set(&builder, "limited" + std::to_string(i), "a.test", 1);
  EXPECT_NE(Ask(*builder.Build(), "a.test").limits, nullptr);
  Set(&builder, "free", "a.test");
  const SetDecision made = Ask(*builder.Build(), "a.test");
  EXPECT_EQ(made.limits, nullptr);
  EXPECT_EQ(made.decision.policy->name, "free");
}

TEST(PolicySet, WithoutPoliciesEverythingIsDenied) {
  EXPECT_FALSE(Ask(PolicySet({}), "a.test").decision.allowed);
  EXPECT_FALSE(Ask(*PolicySetBuilder().Build(), "a.test").decision.allowed);
}

}  // namespace
}  // namespace egress::proxy
