#include "tests/unit/policy_random.h"

#include <algorithm>
#include <array>

#include "tests/unit/policy_manifests.h"

namespace egress::policy {
namespace {

constexpr std::array kPrefixes = {"any",
                                  "0.0.0.0/0",
                                  "::/0",
                                  "198.51.100.0/24",
                                  "198.51.100.0/25",
                                  "198.51.100.128/25",
                                  "198.51.100.7/32",
                                  "203.0.113.0/24",
                                  "2001:db8::/32",
                                  "2001:db8:1::/48",
                                  "2001:db8:1::7/128"};
constexpr std::array kAddresses = {"198.51.100.7",  "198.51.100.8",  "198.51.100.200", "203.0.113.9", "192.0.2.1",
                                   "2001:db8:1::7", "2001:db8:1::8", "2001:db8:2::1",  "2001:db9::1"};
constexpr std::array kHosts = {"a.test", "b.test",     "x.a.test",     "*.a.test",
                               "*.test", "*.x.a.test", "198.51.100.7", "2001:db8:1::7"};
constexpr std::array kNames = {"a.test",       "A.Test.",
                               "b.test",       "x.a.test",
                               "y.x.a.test",   "c.test",
                               "test",         "198.51.100.7",
                               "evil.example", "a.test.evil.example",
                               "xa.test",      "-",
                               "a..test",      ""};
constexpr std::array kPaths = {"/get", "/get?x=1", "/getx", "/status/200", "/", "*", "/a/../get"};
constexpr std::array kRegexes = {"/get", "/status.*", "/.*", ".*x.*"};
constexpr std::array kMethods = {"GET", "POST", "CONNECT"};
constexpr std::array<std::uint16_t, 3> kPorts = {80, 443, 5000};

}  // namespace

HttpMatch RandomPolicies::Route() {
  HttpMatch route;
  route.name = "route";
  if (Chance(70)) route.path_regex = kRegexes[Below(kRegexes.size())];
  if (Chance(40)) route.methods.push_back(kMethods[Below(kMethods.size())]);
  if (Chance(30)) route.headers.emplace_back("x-token", Chance(50) ? "[a-f]+" : ".*");
  return route;
}

EffectivePolicy RandomPolicies::Policy(int number) {
  EffectivePolicy policy;
  policy.id = {"ns", "p" + std::to_string(number)};
  policy.service_accounts = {{"ns", "sa"}};
  const std::size_t ports = 1 + Below(2);
  for (std::size_t i = 0; i < ports; ++i) {
    policy.ports.push_back({AnyPort(), Protocol(Chance(25) ? 2 + Below(2) : Below(2))});
  }
  const std::size_t cidrs = Chance(30) ? 0 : 1 + Below(3);
  for (std::size_t i = 0; i < cidrs; ++i) policy.cidrs.push_back(Cidr(kPrefixes[Below(kPrefixes.size())]));
  if (policy.cidrs.empty()) policy.cidrs.push_back(Prefix{});
  const std::size_t hosts = 1 + Below(3);
  for (std::size_t i = 0; i < hosts; ++i) policy.hosts.emplace_back(kHosts[Below(kHosts.size())]);
  policy.all_routes = Chance(50);
  if (!policy.all_routes) {
    for (std::size_t i = Below(3); i > 0; --i) policy.routes.push_back(Route());
  }
  if (Chance(20)) policy.limits.max_connections = static_cast<std::uint32_t>(Below(5));
  const auto tidy = [](auto* list) {
    std::sort(list->begin(), list->end());
    list->erase(std::unique(list->begin(), list->end()), list->end());
  };
  tidy(&policy.ports);
  tidy(&policy.cidrs);
  tidy(&policy.hosts);
  return policy;
}

std::vector<EffectivePolicy> RandomPolicies::Policies(std::size_t count) {
  std::vector<EffectivePolicy> policies;
  for (std::size_t i = 0; i < count; ++i) policies.push_back(Policy(static_cast<int>(i)));
  return policies;
}

std::vector<EffectivePolicy> RandomPolicies::Less(std::vector<EffectivePolicy> policies) {
  if (policies.empty()) return policies;
  const std::size_t at = Below(policies.size());
  EffectivePolicy& policy = policies[at];
  const auto shrink = [&](auto* list) {
    if (list->size() < 2) return false;
    list->erase(list->begin() + static_cast<std::ptrdiff_t>(Below(list->size())));
    return true;
  };
  bool done = false;
  switch (Below(6)) {
    case 0: done = shrink(&policy.ports); break;
    case 1: done = shrink(&policy.cidrs); break;
    case 2: done = shrink(&policy.hosts); break;
    case 3: done = shrink(&policy.routes); break;
    case 4:
      // Less than everything: a route where every request was allowed.
      if (policy.all_routes) {
        policy.all_routes = false;
        policy.routes.push_back(Route());
        std::erase(policy.routes.back().methods, "CONNECT");
        done = true;
      }
      break;
    default: break;
  }
  if (!done) policies.erase(policies.begin() + static_cast<std::ptrdiff_t>(at));
  return policies;
}

Address RandomPolicies::AnyAddress() { return Ip(kAddresses[Below(kAddresses.size())]); }
std::uint16_t RandomPolicies::AnyPort() { return kPorts[Below(kPorts.size())]; }
std::string RandomPolicies::AnyName() { return kNames[Below(kNames.size())]; }

RandomPolicies::Request RandomPolicies::AnyRequest(std::uint16_t port) {
  Request request;
  request.method = kMethods[Below(kMethods.size())];
  request.authority = Chance(10) ? "[2001:db8:1::7]" : AnyName();
  if (Chance(40)) request.authority += ":" + std::to_string(Chance(80) ? port : AnyPort());
  request.path = kPaths[Below(kPaths.size())];
  for (std::size_t i = Below(3); i > 0; --i) request.headers.emplace_back("X-Token", Chance(70) ? "beef" : "12");
  return request;
}

std::vector<PolicyPtr> Shared(const std::vector<EffectivePolicy>& policies) {
  std::vector<PolicyPtr> shared;
  for (const EffectivePolicy& policy : policies) shared.push_back(std::make_shared<const EffectivePolicy>(policy));
  return shared;
}

}  // namespace egress::policy
