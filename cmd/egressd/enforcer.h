// Enforcer: what is in force on this node. It takes a change of policy or pods as a whole and brings it into force in
// one step for the kernel and the proxy.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/datapath/attachments.h"
#include "agent/datapath/document_sync.h"
#include "agent/datapath/network_sync.h"
#include "agent/datapath/pod_table.h"
#include "agent/datapath/rule_sync.h"

namespace egress::agent {

struct GuardedPod {
  datapath::PodSpec spec;
  std::string host_name;                       // of the interface; empty: there is none
  bool unguarded = false;                      // nothing but the mesh
  std::vector<datapath::InboundFlow> inbound;  // live when it became governed
};

struct Change {
  std::optional<policy::NetworkPolicy> network;
  std::map<policy::ServiceAccount, std::vector<policy::PolicyPtr>> accounts;  // all policies of each, sorted
  std::vector<GuardedPod> pods;          // come or change; their account must be known, or be in `accounts`
  std::vector<std::uint64_t> pods_gone;  // netns cookies
};

class Enforcer {
 public:
  // Documents that a change touches; nullptr: gone.
  using Documents = std::vector<std::pair<policy::ObjectId, policy::PolicyPtr>>;
  // Called when all is written and before anything is switched: the proxy takes over the same generation.
  using BeforeSwitch = std::function<void(std::uint32_t generation, const Documents& documents)>;

  static Result<std::unique_ptr<Enforcer>> Open(const std::string& bpffs, std::vector<std::string> cgroups);

  // Returns what went wrong, in words; the pods concerned are then left with less, never with more. The first change
  // attaches the programs; an error of that is an Error.
  Result<std::vector<std::string>> Apply(const Change& change, const BeforeSwitch& before_switch);

  // Programs that somebody has detached or moved are put back; what was wrong, in words.
  std::vector<std::string> RepairAttachments() { return attachments_.Repair(); }

  // Before the first change: AllDocuments() are then those that an agent before this one has left in force.
  void Adopt();

  bool HasAccount(const policy::ServiceAccount& account) const { return accounts_.contains(account); }
  std::size_t PolicyCount(const policy::ServiceAccount& account) const;
  std::map<policy::ObjectId, policy::PolicyPtr> AllDocuments() const { return documents_.All(); }
  std::uint32_t generation() const { return kernel_->config()->generation; }

  datapath::KernelObject& kernel() { return *kernel_; }
  datapath::PodTable& pods() { return *pods_; }
  const datapath::RuleSync& rules() const { return rules_; }
  const datapath::Attachments& attachments() const { return attachments_; }

 private:
  struct Account {
    std::vector<policy::PolicyPtr> policies;
    std::size_t pods = 0;
    bool failed = false;  // its rules could not be written: its pods get none
  };

  Enforcer(std::unique_ptr<datapath::KernelObject> kernel, std::unique_ptr<datapath::PodTable> pods,
           std::vector<std::string> cgroups);
  void StageNetwork(const policy::NetworkPolicy& network, std::vector<std::string>& problems);
  Documents StageAccounts(const Change& change, std::vector<std::string>& problems);
  void StageAccount(const policy::ServiceAccount& id, const std::vector<policy::PolicyPtr>& policies,
                    std::vector<std::string>& problems);
  using Touched = std::map<policy::ObjectId, policy::PolicyPtr>;
  static void AddDifference(const std::vector<policy::PolicyPtr>& before, const std::vector<policy::PolicyPtr>& now,
                            Touched& touched);
  // The policy as an account of this node has it among its own, nullptr where none has. `known` is a version of it that
  // names its accounts; without it all are looked at.
  policy::PolicyPtr Listed(const policy::ObjectId& id, const policy::PolicyPtr& known) const;
  void SetPods(const Change& change, std::vector<std::string>& problems);
  void RemovePods(const Change& change);
  Result<void> AttachFirst();
  void Guard(const Change& change, std::vector<std::string>& problems);
  void Switch(const Change& change, const Documents& documents, const BeforeSwitch& before_switch);
  void SwitchPods(const Change& change);
  datapath::PodMode ModeOf(const GuardedPod& pod) const;

  std::unique_ptr<datapath::KernelObject> kernel_;
  std::vector<std::string> cgroups_;
  datapath::RuleSync rules_;
  datapath::DocumentSync documents_;
  datapath::NetworkSync networks_;
  std::unique_ptr<datapath::PodTable> pods_;
  datapath::Attachments attachments_;
  policy::NetworkPolicy network_;
  bool network_failed_ = false;
  std::map<policy::ServiceAccount, Account> accounts_;
  std::set<policy::ObjectId> unwritten_;  // documents to be tried again with the next change
  std::map<std::uint64_t, GuardedPod> guarded_;
  std::uint32_t next_ = 0;  // generation of the change that is being applied
  bool first_ = true;
};

}  // namespace egress::agent
