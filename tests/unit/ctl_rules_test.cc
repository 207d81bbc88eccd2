#include "cmd/egressctl/rules.h"

#include <gtest/gtest.h>

namespace egress::ctl {
namespace {

using nlohmann::json;

datapath::PodPolicy MakePod(policy::EffectivePolicy policy) {
  datapath::PodPolicy pod;
  std::string("curl/curl-5d8f").copy(pod.pod.pod.name, sizeof pod.pod.pod.name - 1);
  std::string("curl/curl").copy(pod.pod.pod.service_account, sizeof pod.pod.pod.service_account - 1);
  policy.id = {"curl", "web"};
  pod.policies = {std::make_shared<const policy::EffectivePolicy>(std::move(policy))};
  return pod;
}

TEST(Rules, ThereIsARowForEachPortAndCidr) {
  policy::EffectivePolicy policy;
  policy.ports = {{80, policy::Protocol::kHttp}, {5000, policy::Protocol::kTcpServerFirst}};
  policy.cidrs = {*ParsePrefix("198.51.100.0/24"), *ParsePrefix("2001:db8::/32")};
  policy.hosts = {"a.test", "b.test"};
  const json rows = RuleRows({MakePod(policy)});
  ASSERT_EQ(rows.size(), 4U);
  EXPECT_EQ(rows[0]["pod"], "curl/curl-5d8f");
  EXPECT_EQ(rows[0]["serviceAccount"], "curl/curl");
  EXPECT_EQ(rows[0]["policy"], "curl/web");
  EXPECT_EQ(rows[0]["port"], 80);
  EXPECT_EQ(rows[0]["protocol"], "http");
  EXPECT_EQ(rows[0]["cidr"], "198.51.100.0/24");
  EXPECT_EQ(rows[0]["hosts"], (json{"a.test", "b.test"}));
  EXPECT_EQ(rows[1]["cidr"], "2001:db8::/32");
  EXPECT_EQ(rows[2]["protocol"], "tcp-server-first");
  EXPECT_EQ(rows[2]["hosts"], json::array());  // tcp does not use them
}

TEST(Rules, NoRoutesAtAllIsNotTheSameAsAllRoutes) {
  policy::EffectivePolicy policy;
  policy.ports = {{80, policy::Protocol::kHttp}};
  policy.cidrs = {Prefix{}};
  policy.all_routes = true;
  const json all = RuleRows({MakePod(policy)})[0];
  EXPECT_EQ(all["allRoutes"], true);
  EXPECT_EQ(all["routes"], json::array());
  EXPECT_EQ(all["cidr"], "any");
  EXPECT_EQ(RoutesInWords(all), "all");
  policy.all_routes = false;
  const json none = RuleRows({MakePod(policy)})[0];
  EXPECT_EQ(none["allRoutes"], false);
  EXPECT_EQ(RoutesInWords(none), "none");
}

TEST(Rules, RoutesCarryPathMethodsAndHeaders) {
  policy::EffectivePolicy policy;
  policy.ports = {{80, policy::Protocol::kHttp}};
  policy.cidrs = {Prefix{}};
  policy.all_routes = false;
  policy.routes = {{"get", "/get", {"GET", "HEAD"}, {{"x-token", "abc.*"}}}, {"any", std::nullopt, {}, {}}};
  const json row = RuleRows({MakePod(policy)})[0];
  EXPECT_EQ(row["routes"][0]["name"], "get");
  EXPECT_EQ(row["routes"][0]["path"], "/get");
  EXPECT_EQ(row["routes"][0]["methods"], (json{"GET", "HEAD"}));
  EXPECT_EQ(row["routes"][0]["headers"], json::array({json{{"x-token", "abc.*"}}}));
  EXPECT_TRUE(row["routes"][1]["path"].is_null());
  EXPECT_EQ(RoutesInWords(row), "GET,HEAD /get x-token=abc.*; all");
}

TEST(Rules, OnlyLimitsThatAreSetAreShown) {
  policy::EffectivePolicy policy;
  policy.ports = {{80, policy::Protocol::kTcp}};
  policy.cidrs = {Prefix{}};
  policy.limits.max_connections = 0;
  EXPECT_EQ(RuleRows({MakePod(policy)})[0]["limits"], (json{{"maxConnections", 0}}));
}

TEST(Rules, TableHasAHeaderAndOneLineARow) {
  policy::EffectivePolicy policy;
  policy.ports = {{443, policy::Protocol::kHttps}};
  policy.cidrs = {Prefix{}};
  policy.hosts = {"a.test"};
  EXPECT_EQ(RuleTable(RuleRows({MakePod(policy)})),
            "POD             SERVICEACCOUNT  POLICY    PORT  PROTOCOL  CIDR  HOSTS   ROUTES\n"
            "curl/curl-5d8f  curl/curl       curl/web  443   https     any   a.test  -\n");
  EXPECT_EQ(RuleTable(json::array()), "POD  SERVICEACCOUNT  POLICY  PORT  PROTOCOL  CIDR  HOSTS  ROUTES\n");
}

}  // namespace
}  // namespace egress::ctl
