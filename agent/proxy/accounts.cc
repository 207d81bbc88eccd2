#include "agent/proxy/accounts.h"

#include <utility>

namespace egress::proxy {
namespace {

constexpr std::size_t kKeepRetired = 16;

}  // namespace

Account::Account() {
  auto versions = std::make_shared<Versions>();
  versions->current = std::make_shared<const PolicySet>(PolicySet::Shards());
  Publish(std::move(versions));
}

Result<void> Accounts::SetPolicy(const policy::ObjectId& id, std::string_view document) {
  // Whatever becomes of the new text, the old one grants nothing any more.
  Detach(id);
  Result<policy::EffectivePolicy> parsed = policy::FromDocument(document);
  if (!parsed) return std::move(parsed).error();
  auto policy = std::make_shared<const policy::EffectivePolicy>(std::move(parsed).value());
  for (const policy::ServiceAccount& name : policy->service_accounts) {
    Of(name);
    entries_[name].policies.Set(id, policy);
    touched_.insert(name);
  }
  policies_[id] = std::move(policy);
  return {};
}

void Accounts::RemovePolicy(const policy::ObjectId& id) { Detach(id); }

void Accounts::Detach(const policy::ObjectId& id) {
  const auto found = policies_.find(id);
  if (found == policies_.end()) return;
  for (const policy::ServiceAccount& name : found->second->service_accounts) {
    entries_[name].policies.Remove(id);
    touched_.insert(name);
  }
  policies_.erase(found);
}

void Accounts::Commit(std::uint32_t generation) {
  for (const policy::ServiceAccount& name : touched_) {
    Entry& entry = entries_[name];
    std::shared_ptr<const Versions> before = entry.account->versions();
    auto versions = std::make_shared<Versions>();
    // Changes come one after the other: what was about to be in force is so by now, or will be skipped.
    versions->current = before->next ? before->next : before->current;
    versions->next = entry.policies.Build();
    versions->next_generation = generation;
    entry.account->Publish(std::move(versions));
    Retire(std::move(before));
  }
  touched_.clear();
}

void Accounts::Retire(std::shared_ptr<const Versions> versions) {
  retired_.push_back(std::move(versions));
  while (retired_.size() > kKeepRetired) retired_.pop_front();
}

std::shared_ptr<Account> Accounts::Of(const policy::ServiceAccount& name) {
  Entry& entry = entries_[name];
  if (!entry.account) entry.account = std::make_shared<Account>();
  return entry.account;
}

}  // namespace egress::proxy
