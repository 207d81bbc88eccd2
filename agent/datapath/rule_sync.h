// RuleSync: RuleSets -> the maps rules, classes, hosts and policies.
//
// Stage() writes what a change adds or takes away beside what is in force (see egress.h on generations). When the
// pods have been switched to the generation, Sweep() deletes what none of them sees any more. What Stage() writes
// follows the difference between the two RuleSets, not their size.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/datapath/kernel_object.h"
#include "agent/policy/compile.h"

namespace egress::datapath {

class RuleSync {
 public:
  explicit RuleSync(const KernelObject& kernel);

  // Rules of `account` from `generation` on. Policies must have been named by SetPolicy(). Where this fails, some of
  // the change is written: the account's pods must then be switched to ruleset 0, which grants nothing.
  Result<void> Stage(std::uint32_t generation, const policy::ServiceAccount& account, policy::RuleSet next);
  // No pod of `account` is left: its entries go with the next Sweep().
  void Forget(const policy::ServiceAccount& account);
  // 0: has no rules.
  std::uint32_t RulesetOf(const policy::ServiceAccount& account) const;

  // Makes the policy known, with its limits; changes of limits are in force at once.
  Result<void> SetPolicy(const policy::ObjectId& id, const policy::Limits& limits);
  void ForgetPolicy(const policy::ObjectId& id);
  // 0: unknown.
  std::uint32_t PolicyId(const policy::ObjectId& id) const;
  // Empty: unknown. A policy that is gone is known a while longer, for the events of what it had allowed.
  std::string PolicyName(std::uint32_t id) const;

  void Sweep();
  // After the first change of an agent: deletes what agents before it have left.
  void SweepForeign();

 private:
  struct Name {
    std::string name;
    std::uint32_t policy = 0;  // id in force
  };
  struct Group {
    std::uint16_t port = 0;
    std::uint32_t id = 0;
    std::vector<Prefix> cidrs;
    std::vector<Name> names;  // sorted
  };
  struct Class {
    std::vector<std::uint32_t> content;  // words of its entry, without the zeros at the end
    std::uint32_t id = 0;
  };
  static bool ByContent(const Class& a, const Class& b);
  struct Account {
    std::uint32_t ruleset = 0;
    std::vector<policy::PrefixRule> rules;  // of the RuleSet in force; the rest of it is in what follows
    std::vector<Group> groups;              // sorted by (port, cidrs)
    std::vector<Class> classes;             // sorted by content
    std::vector<std::uint32_t> class_ids;   // of the RuleSet's classes, in its order
  };

  std::uint32_t NextId();
  Result<void> StageGroups(std::uint32_t generation, Account& account, const policy::RuleSet& next,
                           std::vector<std::uint32_t>& group_ids);
  Result<void> StageNames(std::uint32_t generation, Group& group, const std::vector<policy::HostGroup::Name>& next);
  Result<std::vector<std::uint32_t>> WriteClasses(Account& account, const policy::RuleSet& next,
                                                  const std::vector<std::uint32_t>& group_ids);
  Result<Class> WriteClass(const Account& account, const policy::RuleClass& wanted,
                           const std::vector<std::uint32_t>& group_ids);
  Result<void> StageRules(std::uint32_t generation, Account& account, const policy::RuleSet& next,
                          const std::vector<std::uint32_t>& class_ids);
  Result<void> WriteHost(std::uint32_t generation, std::uint32_t group, const std::string& name, std::uint32_t now,
                         std::uint32_t next);
  void DropPolicy(std::uint32_t id);
  host_key HostKey(std::uint32_t group, const std::string& name) const;

  const KernelObject& kernel_;
  std::uint32_t first_id_;  // ids below are of agents before this one
  BpfMap<rule_key, struct rule> rules_map_;
  BpfMap<host_key, struct host> hosts_map_;
  BpfMap<std::uint32_t, rule_class> classes_map_;
  BpfMap<std::uint32_t, struct policy> policies_map_;
  std::map<policy::ServiceAccount, Account> accounts_;
  struct IdHash {
    std::size_t operator()(const policy::ObjectId& id) const;
  };
  std::unordered_map<policy::ObjectId, std::uint32_t, IdHash> policies_;
  std::unordered_map<std::uint32_t, const policy::ObjectId*> policy_names_;  // keys of policies_
  std::set<std::uint32_t> inherited_policies_;  // named by an agent before this one, and not by this one yet
  std::deque<std::pair<std::uint32_t, std::string>> former_names_;  // of policies that are gone, the last ones
  // What the next Sweep() deletes.
  std::vector<rule_key> dead_rules_;
  std::vector<host_key> dead_hosts_;
  std::vector<std::uint32_t> dead_classes_;
  std::vector<std::uint32_t> dead_policies_;
};

}  // namespace egress::datapath
