#include "cmd/egressd/enforcer.h"

#include <malloc.h>

#include <algorithm>
#include <set>

#include "agent/policy/compile.h"

namespace egress::agent {

Result<std::unique_ptr<Enforcer>> Enforcer::Open(const std::string& bpffs, std::vector<std::string> cgroups) {
  auto kernel = datapath::KernelObject::Load(bpffs);
  if (!kernel) return std::move(kernel).error();
  auto pods = datapath::PodTable::Open(**kernel);
  if (!pods) return std::move(pods).error();
  return std::unique_ptr<Enforcer>(new Enforcer(*std::move(kernel), *std::move(pods), std::move(cgroups)));
}

Enforcer::Enforcer(std::unique_ptr<datapath::KernelObject> kernel, std::unique_ptr<datapath::PodTable> pods,
                   std::vector<std::string> cgroups)
    : kernel_(std::move(kernel)),
      cgroups_(std::move(cgroups)),
      rules_(*kernel_),
      documents_(*kernel_),
      networks_(*kernel_),
      pods_(std::move(pods)),
      attachments_(*kernel_) {}

std::size_t Enforcer::PolicyCount(const policy::ServiceAccount& account) const {
  const auto known = accounts_.find(account);
  return known != accounts_.end() ? known->second.policies.size() : 0;
}

void Enforcer::Adopt() { documents_.Adopt(generation()); }

Result<std::vector<std::string>> Enforcer::Apply(const Change& change, const BeforeSwitch& before_switch) {
  std::vector<std::string> problems;
  rules_.Sweep();
  documents_.Sweep();
  networks_.Sweep();
  next_ = kernel_->config()->generation + 1;
  if (change.network) StageNetwork(*change.network, problems);
  const Documents documents = StageAccounts(change, problems);
  SetPods(change, problems);
  if (first_ && kernel_->policy_replaced()) {
    // Nothing that is attached reads these maps yet. The boundary comes first: with it the verdicts that the programs of
    // before still give are judged by what is in force here, not the other way round.
    Switch(change, documents, before_switch);
    if (auto done = kernel_->Publish(); !done) return std::move(done).error();
    Guard(change, problems);
    SwitchPods(change);  // those that could not be guarded
    if (auto done = AttachFirst(); !done) return std::move(done).error();
  } else {
    if (first_) {
      if (auto done = AttachFirst(); !done) return std::move(done).error();
    }
    Guard(change, problems);
    Switch(change, documents, before_switch);
  }
  RemovePods(change);
  if (first_) {
    if (auto done = kernel_->Publish(); !done) return std::move(done).error();
    attachments_.SweepForeign();
    rules_.SweepForeign();
    documents_.SweepForeign();
    first_ = false;
    ::malloc_trim(0);  // reading all there is took much that is free again, between what stays
  }
  return problems;
}

void Enforcer::Guard(const Change& change, std::vector<std::string>& problems) {
  for (const GuardedPod& pod : change.pods) {
    if (pod.spec.host_ifindex == 0) continue;
    if (auto done = attachments_.Guard(pod.spec.host_ifindex, pod.host_name); !done) {
      guarded_[pod.spec.cookie].unguarded = true;
      problems.push_back(pod.spec.name.ToString() + ": " + done.error().message);
    }
  }
}

void Enforcer::Switch(const Change& change, const Documents& documents, const BeforeSwitch& before_switch) {
  before_switch(next_, documents);
  SwitchPods(change);
  __atomic_store_n(&kernel_->config()->generation, next_, __ATOMIC_SEQ_CST);
}

void Enforcer::StageNetwork(const policy::NetworkPolicy& network, std::vector<std::string>& problems) {
  network_ = network;
  const auto done = networks_.Stage(next_, network);
  network_failed_ = !done;
  if (!done) problems.push_back("exclusion lists: " + done.error().message + "; all pods reach the mesh only");
}

// Policies of an account that are not the very same object as before: id -> as it is now, nullptr where it is gone.
// Both lists are sorted by id.
void Enforcer::AddDifference(const std::vector<policy::PolicyPtr>& before, const std::vector<policy::PolicyPtr>& now,
                             Touched& touched) {
  auto old = before.begin();
  for (const auto& policy : now) {
    for (; old != before.end() && (*old)->id < policy->id; ++old) touched.try_emplace((*old)->id);
    if (old != before.end() && *old == policy) {
      ++old;
      continue;
    }
    if (old != before.end() && (*old)->id == policy->id) ++old;
    touched[policy->id] = policy;
  }
  for (; old != before.end(); ++old) touched.try_emplace((*old)->id);
}

Enforcer::Documents Enforcer::StageAccounts(const Change& change, std::vector<std::string>& problems) {
  Touched touched;
  if (first_) {  // what was adopted may be gone
    for (const auto& [id, policy] : documents_.All()) touched.try_emplace(id);
  }
  for (const auto& id : unwritten_) touched.try_emplace(id);
  unwritten_.clear();
  for (const auto& [id, policies] : change.accounts) {
    AddDifference(accounts_[id].policies, policies, touched);
    StageAccount(id, policies, problems);
  }
  Documents documents;
  for (auto& [id, now] : touched) {
    policy::PolicyPtr then = now ? std::move(now) : Listed(id, documents_.Current(id));
    const auto changed = documents_.Stage(next_, id, then);
    if (!changed) {
      problems.push_back(id.ToString() + ": " + changed.error().message);
      unwritten_.insert(id);
    } else if (!*changed) {
      continue;
    }
    if (!then) rules_.ForgetPolicy(id);
    documents.emplace_back(id, std::move(then));
  }
  return documents;
}

policy::PolicyPtr Enforcer::Listed(const policy::ObjectId& id, const policy::PolicyPtr& known) const {
  const auto find = [&id](const Account& account) -> policy::PolicyPtr {
    const auto at = std::lower_bound(account.policies.begin(), account.policies.end(), id,
                                     [](const auto& policy, const auto& wanted) { return policy->id < wanted; });
    return at != account.policies.end() && (*at)->id == id ? *at : nullptr;
  };
  if (!known) {
    for (const auto& [name, account] : accounts_) {
      if (auto found = find(account)) return found;
    }
    return nullptr;
  }
  for (const policy::ServiceAccount& name : known->service_accounts) {
    const auto account = accounts_.find(name);
    if (account == accounts_.end()) continue;
    if (auto found = find(account->second)) return found;
  }
  return nullptr;
}

void Enforcer::StageAccount(const policy::ServiceAccount& id, const std::vector<policy::PolicyPtr>& policies,
                            std::vector<std::string>& problems) {
  Account& account = accounts_[id];
  // Both lists are sorted by id; what is the very same object needs no second look.
  auto before = account.policies.begin();
  Result<void> done;
  for (const auto& policy : policies) {
    while (before != account.policies.end() && (*before)->id < policy->id) ++before;
    if (before != account.policies.end() && *before == policy && !account.failed) continue;
    if (done = rules_.SetPolicy(policy->id, policy->limits); !done) break;
  }
  if (done) done = rules_.Stage(next_, id, policy::Compile(policies));
  account.policies = policies;
  account.failed = !done;
  if (!done) {
    problems.push_back("rules of ServiceAccount " + id.ToString() + ": " + done.error().message +
                       "; its pods reach the mesh only");
  }
}

void Enforcer::SetPods(const Change& change, std::vector<std::string>& problems) {
  std::vector<std::uint64_t> cookies;
  for (const GuardedPod& pod : change.pods) cookies.push_back(pod.spec.cookie);
  pods_->MakeInboundRecords(cookies);
  for (const GuardedPod& pod : change.pods) {
    const auto known = guarded_.find(pod.spec.cookie);
    const bool moved = known != guarded_.end() && known->second.spec.service_account != pod.spec.service_account;
    if (known == guarded_.end() || moved) ++accounts_[pod.spec.service_account].pods;
    if (moved) --accounts_[known->second.spec.service_account].pods;
    if (known != guarded_.end() && known->second.spec.host_ifindex != 0 &&
        known->second.spec.host_ifindex != pod.spec.host_ifindex) {
      attachments_.Unguard(known->second.spec.host_ifindex);
    }
    guarded_[pod.spec.cookie] = pod;
    if (auto done = pods_->Set(pod.spec, next_, ModeOf(pod)); !done) {
      problems.push_back(pod.spec.name.ToString() + ": " + done.error().message);
      continue;
    }
    if (pod.inbound.empty()) continue;
    if (auto done = pods_->RecordInbound(pod.spec.cookie, pod.inbound); !done) {
      problems.push_back(pod.spec.name.ToString() + ": connections towards the pod: " + done.error().message);
    }
  }
}

void Enforcer::RemovePods(const Change& change) {
  for (const std::uint64_t cookie : change.pods_gone) {
    const auto known = guarded_.find(cookie);
    if (known == guarded_.end()) {
      pods_->Remove(cookie);
      continue;
    }
    if (known->second.spec.host_ifindex != 0) attachments_.Unguard(known->second.spec.host_ifindex);
    pods_->Remove(cookie);
    const policy::ServiceAccount account = known->second.spec.service_account;
    guarded_.erase(known);
    Account& left = accounts_[account];
    if (--left.pods > 0) continue;
    const std::vector<policy::PolicyPtr> policies = std::move(left.policies);
    left.policies.clear();
    for (const auto& policy : policies) {
      if (Listed(policy->id, policy)) continue;
      (void)documents_.Stage(next_ + 1, policy->id, nullptr);
      rules_.ForgetPolicy(policy->id);
    }
    rules_.Forget(account);
    accounts_.erase(account);
  }
}

Result<void> Enforcer::AttachFirst() { return attachments_.AttachSockets(cgroups_); }

datapath::PodMode Enforcer::ModeOf(const GuardedPod& pod) const {
  const auto account = accounts_.find(pod.spec.service_account);
  datapath::PodMode mode;
  mode.open = network_.open;
  mode.audit = network_.audit;
  mode.unguarded = pod.unguarded || network_failed_;
  if (account != accounts_.end() && !account->second.failed) {
    mode.ruleset = rules_.RulesetOf(pod.spec.service_account);
  }
  return mode;
}

// Only pods that something of the change concerns: the generation of the others stays, and so do their verdicts.
void Enforcer::SwitchPods(const Change& change) {
  std::set<std::uint64_t> changed;
  for (const GuardedPod& pod : change.pods) changed.insert(pod.spec.cookie);
  // One that leaves the mesh takes its live connections along: it must not meet the rules that go with it.
  const std::set<std::uint64_t> gone(change.pods_gone.begin(), change.pods_gone.end());
  for (const auto& [cookie, pod] : guarded_) {
    if (gone.contains(cookie)) continue;
    if (change.network || changed.contains(cookie) || change.accounts.contains(pod.spec.service_account)) {
      pods_->Switch(cookie, next_, ModeOf(pod));
    }
  }
}

}  // namespace egress::agent
