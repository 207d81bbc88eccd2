#include "tests/bpf/pod_fleet.h"

#include "agent/policy/compile.h"

namespace egress::test {
namespace {

std::shared_ptr<const View> MakeView(const policy::NetworkPolicy& network, std::vector<policy::PolicyPtr> policies) {
  policy::NetworkPolicy datagrams = network;
  datagrams.excluded_ports.clear();
  datagrams.policies_enabled = false;
  return std::shared_ptr<const View>(new View{network, datagrams, policies, policy::PolicyIndex(policies)});
}

}  // namespace

Result<std::unique_ptr<PodFleet>> PodFleet::Open(std::string bpffs, const std::vector<std::string>& namespaces) {
  std::unique_ptr<PodFleet> fleet(new PodFleet(std::move(bpffs)));
  if (auto done = fleet->LoadAll(); !done) return std::move(done).error();
  std::uint64_t cookie = 1000;
  const auto add = [&](const std::string& ns, bool unguarded) {
    const std::string number = std::to_string(1 + cookie % 100);
    fleet->pods_.push_back({++cookie,
                            0,
                            ns,
                            unguarded,
                            {*ParseAddress("192.0.2." + number), *ParseAddress("2001:db8::" + number)},
                            nullptr});
  };
  for (const std::string& ns : namespaces) {
    fleet->policies_[ns] = {};
    add(ns, false);
    add(ns, false);
  }
  add(namespaces.front(), true);
  if (auto done = fleet->Stage(fleet->policies_, policy::NetworkPolicy()); !done) return std::move(done).error();
  if (auto done = fleet->SetPods(); !done) return std::move(done).error();
  for (FleetPod& pod : fleet->pods_) fleet->Switch(pod);
  fleet->Finish();
  if (auto done = fleet->kernel_->Publish(); !done) return std::move(done).error();
  return fleet;
}

PodFleet::~PodFleet() { (void)datapath::RemovePins(bpffs_); }

Result<void> PodFleet::LoadAll() {
  program_.reset();
  table_.reset();
  networks_.reset();
  rules_.reset();
  kernel_.reset();
  auto kernel = datapath::KernelObject::Load(bpffs_);
  if (!kernel) return std::move(kernel).error();
  kernel_ = *std::move(kernel);
  rules_ = std::make_unique<datapath::RuleSync>(*kernel_);
  networks_ = std::make_unique<datapath::NetworkSync>(*kernel_);
  auto table = datapath::PodTable::Open(*kernel_);
  if (!table) return std::move(table).error();
  table_ = *std::move(table);
  auto program = JudgeProgram::Load(*kernel_);
  if (!program) return std::move(program).error();
  program_ = *std::move(program);
  return {};
}

datapath::PodSpec PodFleet::SpecOf(const FleetPod& pod) const {
  datapath::PodSpec spec;
  spec.cookie = pod.cookie;
  spec.name = {pod.ns, "pod-" + std::to_string(pod.cookie)};
  spec.service_account = {pod.ns, "sa"};
  spec.addresses = pod.own;
  return spec;
}

datapath::PodMode PodFleet::ModeOf(const FleetPod& pod) const {
  datapath::PodMode mode;
  mode.ruleset = rules_->RulesetOf({pod.ns, "sa"});
  mode.open = network_.open;
  mode.unguarded = pod.unguarded;
  return mode;
}

Result<void> PodFleet::SetPods() {
  for (FleetPod& pod : pods_) {
    if (auto done = table_->Set(SpecOf(pod), generation_, ModeOf(pod)); !done) return done;
    pod.slot = *table_->SlotOf(pod.cookie);
  }
  return {};
}

Result<void> PodFleet::StageAccount(const std::string& ns, const std::vector<policy::PolicyPtr>& policies) {
  std::set<policy::ObjectId> gone;
  for (const auto& policy : policies_[ns]) gone.insert(policy->id);
  for (const auto& policy : policies) {
    gone.erase(policy->id);
    if (auto done = rules_->SetPolicy(policy->id, policy->limits); !done) return done;
    limits_[policy->id] = policy->limits;
  }
  const auto granting = network_.policies_enabled ? policies : std::vector<policy::PolicyPtr>();
  if (auto done = rules_->Stage(generation_, {ns, "sa"}, policy::Compile(granting)); !done) return done;
  for (const auto& id : gone) rules_->ForgetPolicy(id);
  return {};
}

Result<void> PodFleet::Stage(const std::map<std::string, std::vector<policy::PolicyPtr>>& policies,
                             const std::optional<policy::NetworkPolicy>& network) {
  generation_ = kernel_->config()->generation + 1;
  concerned_.clear();
  auto changed = policies;
  if (network) {
    if (auto done = networks_->Stage(generation_, *network); !done) return done;
    network_ = *network;
    for (const auto& [ns, unchanged] : policies_) changed.try_emplace(ns, unchanged);
  }
  for (const auto& [ns, next] : changed) {
    if (auto done = StageAccount(ns, next); !done) return done;
    policies_[ns] = next;
    views_[ns] = MakeView(network_, next);
    concerned_.insert(ns);
  }
  return {};
}

void PodFleet::Switch(FleetPod& pod) {
  if (!concerned_.contains(pod.ns)) return;
  table_->Switch(pod.cookie, generation_, ModeOf(pod));
  pod.seen = views_[pod.ns];
}

void PodFleet::Finish() { kernel_->config()->generation = generation_; }

void PodFleet::Sweep() {
  rules_->Sweep();
  networks_->Sweep();
  if (foreign_) rules_->SweepForeign();
  foreign_ = false;
}

Result<void> PodFleet::Restart() {
  if (auto done = LoadAll(); !done) return done;
  foreign_ = true;
  if (auto done = Stage(policies_, network_); !done) return done;
  return SetPods();
}

Result<void> PodFleet::SetConnections(RandomWorld* random) {
  const auto map = kernel_->Map<connection_key, std::uint32_t>("connections");
  connections_.clear();
  for (const FleetPod& pod : pods_) {
    for (const auto& [id, limits] : limits_) {
      const std::uint32_t number = rules_->PolicyId(id);
      const auto count = static_cast<std::uint32_t>(random->Below(4));
      if (number == 0) continue;
      if (auto done = map.Set({pod.slot, number}, count); !done) return done;
      connections_[{pod.slot, id}] = count;
    }
  }
  return {};
}

bool PodFleet::HasRoom(const FleetPod& pod, const policy::ObjectId& policy) const {
  const auto limits = limits_.find(policy);
  if (limits == limits_.end()) return false;
  const auto used = connections_.find({pod.slot, policy});
  return !limits->second.max_connections ||
         (used == connections_.end() ? 0 : used->second) < *limits->second.max_connections;
}

}  // namespace egress::test
