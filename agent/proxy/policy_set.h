// All policies of one ServiceAccount, in shards: a change builds the index of its own shard anew, not that of
// ten thousand policies.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "agent/policy/decide.h"

namespace egress::proxy {

struct SetDecision {
  policy::Decision decision;
  const policy::Limits* limits = nullptr;  // of the policy that allows, where it limits anything; lives with the set
};

// Immutable, shared between threads.
class PolicySet {
 public:
  using Shards = std::vector<std::shared_ptr<const policy::PolicyIndex>>;
  explicit PolicySet(Shards shards) : shards_(std::move(shards)) {}

  // The union over the shards. Of several policies that allow, one without limits is named; where none allows, the
  // reason is that of the one that came closest. Each form of the address (AddressForms) has to be allowed.
  SetDecision Http(const Address& address, std::uint16_t port, const policy::HttpRequest& request) const;

 private:
  SetDecision HttpForm(const Address& form, std::uint16_t port, const policy::HttpRequest& request) const;

  Shards shards_;
};

// Keeps the shards up to date. Owned by the control thread.
class PolicySetBuilder {
 public:
  static constexpr std::size_t kShardSize = 1024;  // policies; a request is looked up in each shard

  void Set(const policy::ObjectId& id, policy::PolicyPtr policy);
  void Remove(const policy::ObjectId& id);
  std::shared_ptr<const PolicySet> Build();  // with what has changed since the last call

 private:
  using Shard = std::map<policy::ObjectId, policy::PolicyPtr>;
  std::size_t ShardOf(const policy::ObjectId& id) const;
  void Spread(std::size_t count);

  std::vector<Shard> shards_ = std::vector<Shard>(1);  // their number is a power of two
  PolicySet::Shards built_;
  std::set<std::size_t> stale_;
  std::size_t size_ = 0;
};

}  // namespace egress::proxy
