#include "agent/proxy/policy_set.h"

#include <functional>
#include <string>
#include <utility>

#include "agent/base/address_forms.h"

namespace egress::proxy {
namespace {

const policy::Limits* LimitsIn(const policy::PolicyIndex& index, const policy::Decision& decision) {
  if (!decision.policy) return nullptr;
  const policy::Limits* limits = index.LimitsOf(*decision.policy);
  return limits != nullptr && *limits != policy::Limits{} ? limits : nullptr;
}

// How close a denial came to being none.
int Closeness(egress_reason reason) {
  switch (reason) {
    case EGRESS_REASON_HTTP_MALFORMED: return 3;
    case EGRESS_REASON_HTTP_ROUTE: return 2;
    case EGRESS_REASON_HTTP_HOST: return 1;
    default: return 0;
  }
}

}  // namespace

SetDecision PolicySet::Http(const Address& address, std::uint16_t port, const policy::HttpRequest& request) const {
  SetDecision first = HttpForm(address, port, request);
  const AddressForms forms(address);
  for (const Address* form = forms.begin() + 1; first.decision.allowed && form != forms.end(); ++form) {
    SetDecision made = HttpForm(*form, port, request);
    if (!made.decision.allowed) return made;
  }
  return first;
}

SetDecision PolicySet::HttpForm(const Address& form, std::uint16_t port, const policy::HttpRequest& request) const {
  SetDecision best;
  bool first = true;
  for (const auto& shard : shards_) {
    policy::Decision decision = shard->HttpForm(form, port, request);
    if (decision.allowed) {
      const policy::Limits* limits = LimitsIn(*shard, decision);
      if (!best.decision.allowed || limits == nullptr) best = {std::move(decision), limits};
      if (limits == nullptr) return best;
    } else if (!best.decision.allowed && (first || Closeness(decision.reason) > Closeness(best.decision.reason))) {
      best.decision = std::move(decision);
    }
    first = false;
  }
  return best;
}

std::size_t PolicySetBuilder::ShardOf(const policy::ObjectId& id) const {
  const std::size_t hash = std::hash<std::string>()(id.name) * 31 + std::hash<std::string>()(id.ns);
  return hash & (shards_.size() - 1);
}

void PolicySetBuilder::Set(const policy::ObjectId& id, policy::PolicyPtr policy) {
  const std::size_t shard = ShardOf(id);
  if (shards_[shard].insert_or_assign(id, std::move(policy)).second) ++size_;
  stale_.insert(shard);
  if (size_ > kShardSize * shards_.size()) Spread(shards_.size() * 2);
}

void PolicySetBuilder::Remove(const policy::ObjectId& id) {
  const std::size_t shard = ShardOf(id);
  if (shards_[shard].erase(id) == 0) return;
  --size_;
  stale_.insert(shard);
  // Well below the size at which they were spread, so that no change goes back and forth.
  if (shards_.size() > 1 && size_ < kShardSize * shards_.size() / 8) Spread(shards_.size() / 2);
}

void PolicySetBuilder::Spread(std::size_t count) {
  std::vector<Shard> before(count);
  before.swap(shards_);
  for (Shard& shard : before) {
    for (auto& [id, policy] : shard) shards_[ShardOf(id)].emplace(id, std::move(policy));
  }
  built_.clear();
  for (std::size_t i = 0; i < count; ++i) stale_.insert(i);
  stale_.erase(stale_.lower_bound(count), stale_.end());
}

std::shared_ptr<const PolicySet> PolicySetBuilder::Build() {
  if (built_.size() != shards_.size()) {
    built_.assign(shards_.size(), nullptr);
    for (std::size_t i = 0; i < shards_.size(); ++i) stale_.insert(i);
  }
  for (const std::size_t i : stale_) {
    std::vector<policy::PolicyPtr> policies;
    policies.reserve(shards_[i].size());
    for (const auto& [id, policy] : shards_[i]) policies.push_back(policy);
    built_[i] = std::make_shared<const policy::PolicyIndex>(std::move(policies));
  }
  stale_.clear();
  return std::make_shared<const PolicySet>(built_);
}

}  // namespace egress::proxy
