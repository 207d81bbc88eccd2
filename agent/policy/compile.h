// Compile: the policies of one ServiceAccount -> RuleSet, the content of the kernel's maps without ids.
//
// Ids (classes, groups, policies) are given by the sync layer, which compares a RuleSet with the one before and
// writes only what differs. So everything here is sorted and comparable, and equal input gives equal output.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/policy/effective.h"

namespace egress::policy {

// The names that https rules of one port and one set of CIDRs allow. Prefixes refer to groups, so 1,000 CIDRs under
// a rule with 5,000 hosts are 6,000 entries, not 5 million; and all policies without CIDRs share one group a port.
struct HostGroup {
  std::uint16_t port = 0;
  std::vector<Prefix> cidrs;  // identity of the group together with `port`; sorted

  struct Name {
    std::string name;  // "example.com", or ".example.com" for *.example.com
    ObjectId policy;   // names the policy in events; where several list the name, one without a connection limit
    auto operator<=>(const Name&) const = default;
  };
  std::vector<Name> names;  // sorted by name, unique
  auto operator<=>(const HostGroup&) const = default;
};

// What one address and port may be used for.
struct RuleClass {
  std::uint8_t protocols = 0;          // EGRESS_TCP | EGRESS_HTTPS | EGRESS_HTTP of bpf/egress.h
  bool tcp_unlimited = false;          // some tcp policy has no connection limit
  std::vector<ObjectId> tcp_policies;  // unlimited one first, if any; at most EGRESS_MAX_TCP_POLICIES
  ObjectId http_policy;                // one of them, for events
  std::vector<std::uint32_t> groups;   // indexes into RuleSet::groups; at most EGRESS_MAX_GROUPS
  auto operator<=>(const RuleClass&) const = default;
};

struct PrefixRule {
  std::uint16_t port = 0;
  Prefix prefix;
  std::uint32_t rule_class = 0;  // index into RuleSet::classes
  auto operator<=>(const PrefixRule&) const = default;
};

struct RuleSet {
  std::vector<HostGroup> groups;   // sorted by (port, cidrs)
  std::vector<RuleClass> classes;  // unique
  std::vector<PrefixRule> rules;   // sorted by (port, prefix); a longer prefix carries the rules of the shorter ones
  bool operator==(const RuleSet&) const = default;
};

RuleSet Compile(std::span<const PolicyPtr> policies);

// `networks` of the kernel: every prefix of the lists with the flags (EGRESS_NET_*) in force there, flattened so
// that the longest prefix is the whole answer. Sorted. Includes Family::kAny where an inclusion list is set.
struct NetworkRule {
  Prefix prefix;
  std::uint32_t flags = 0;
  auto operator<=>(const NetworkRule&) const = default;
};
std::vector<NetworkRule> CompileNetworks(const NetworkPolicy& network);

}  // namespace egress::policy
