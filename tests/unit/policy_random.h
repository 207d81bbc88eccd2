// Random policies over a small world, so that rules meet each other and flows often enough.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "agent/policy/decide.h"
#include "agent/policy/effective.h"

namespace egress::policy {

class RandomPolicies {
 public:
  explicit RandomPolicies(std::uint64_t seed) : random_(seed) {}

  std::size_t Below(std::size_t bound) { return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random_); }
  bool Chance(int percent) { return Below(100) < static_cast<std::size_t>(percent); }

  EffectivePolicy Policy(int number);
  std::vector<EffectivePolicy> Policies(std::size_t count);
  // Takes something away that a policy grants: a policy, port, address range, host, route or method.
  std::vector<EffectivePolicy> Less(std::vector<EffectivePolicy> policies);

  Address AnyAddress();
  std::uint16_t AnyPort();
  std::string AnyName();
  struct Request {
    std::string method;
    std::string authority;
    std::string path;
    std::vector<std::pair<std::string, std::string>> headers;
  };
  Request AnyRequest(std::uint16_t port);

 private:
  HttpMatch Route();

  std::mt19937_64 random_;
};

std::vector<PolicyPtr> Shared(const std::vector<EffectivePolicy>& policies);

}  // namespace egress::policy
