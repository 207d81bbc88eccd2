// PodFleet: a few pods whose rules are written by the agent's own sync code, and what each of them must see.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/datapath/network_sync.h"
#include "agent/datapath/pod_table.h"
#include "agent/datapath/rule_sync.h"
#include "agent/policy/decide.h"
#include "tests/bpf/judge_program.h"
#include "tests/bpf/random_world.h"

namespace egress::test {

// What is in force for a pod.
struct View {
  policy::NetworkPolicy network;
  policy::NetworkPolicy datagram_network;  // without the ports, which are for TCP
  std::vector<policy::PolicyPtr> policies;
  policy::PolicyIndex index;
};

struct FleetPod {
  std::uint64_t cookie = 0;
  std::uint32_t slot = 0;
  std::string ns;  // of its ServiceAccount NS/sa
  bool unguarded = false;
  std::vector<Address> own;
  std::shared_ptr<const View> seen;
};

class PodFleet {
 public:
  // Two pods for each namespace and one that is unguarded; `bpffs` is made and, at the end, removed.
  static Result<std::unique_ptr<PodFleet>> Open(std::string bpffs, const std::vector<std::string>& namespaces);
  ~PodFleet();
  PodFleet(const PodFleet&) = delete;
  PodFleet& operator=(const PodFleet&) = delete;

  // Writes a change beside what is in force: policies of some namespaces, and the network where it is given. Nothing
  // must be seen of it before Switch().
  Result<void> Stage(const std::map<std::string, std::vector<policy::PolicyPtr>>& policies,
                     const std::optional<policy::NetworkPolicy>& network);
  // Brings the staged change into force for one pod, if it concerns it.
  void Switch(FleetPod& pod);
  // All pods have been switched.
  void Finish();
  void Sweep();
  // Another agent takes over what is pinned: all is staged again.
  Result<void> Restart();

  // How many connections of the pods count against the limits of their policies.
  Result<void> SetConnections(RandomWorld* random);

  Result<void> Ask(std::span<judge_probe> probes) { return program_->Run(probes); }
  std::vector<FleetPod>& pods() { return pods_; }
  const std::map<std::string, std::vector<policy::PolicyPtr>>& policies() const { return policies_; }
  const policy::NetworkPolicy& network() const { return network_; }

  std::string PolicyName(std::uint32_t id) const { return rules_->PolicyName(id); }
  // Has the pod room for another connection under this policy?
  bool HasRoom(const FleetPod& pod, const policy::ObjectId& policy) const;

 private:
  explicit PodFleet(std::string bpffs) : bpffs_(std::move(bpffs)) {}
  Result<void> LoadAll();
  Result<void> SetPods();
  Result<void> StageAccount(const std::string& ns, const std::vector<policy::PolicyPtr>& policies);
  datapath::PodSpec SpecOf(const FleetPod& pod) const;
  datapath::PodMode ModeOf(const FleetPod& pod) const;

  std::string bpffs_;
  std::unique_ptr<datapath::KernelObject> kernel_;
  std::unique_ptr<datapath::RuleSync> rules_;
  std::unique_ptr<datapath::NetworkSync> networks_;
  std::unique_ptr<datapath::PodTable> table_;
  std::unique_ptr<JudgeProgram> program_;
  std::vector<FleetPod> pods_;

  // As staged last.
  std::uint32_t generation_ = 0;
  policy::NetworkPolicy network_;
  std::map<std::string, std::vector<policy::PolicyPtr>> policies_;
  std::map<std::string, std::shared_ptr<const View>> views_;
  std::set<std::string> concerned_;
  std::map<policy::ObjectId, policy::Limits> limits_;
  std::map<std::pair<std::uint32_t, policy::ObjectId>, std::uint32_t> connections_;  // by slot and policy
  bool foreign_ = false;  // something of an agent before this one is left
};

}  // namespace egress::test
