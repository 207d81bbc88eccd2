// The policies in force for each ServiceAccount, and those about to be.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string_view>

#include "agent/base/result.h"
#include "agent/policy/effective.h"
#include "agent/proxy/policy_set.h"

namespace egress::proxy {

// What holds before and from a generation on. Immutable; swapped whole.
struct Versions {
  std::shared_ptr<const PolicySet> current;
  std::shared_ptr<const PolicySet> next;  // null: nothing is about to change
  std::uint32_t next_generation = 0;

  const std::shared_ptr<const PolicySet>& At(std::uint32_t generation) const {
    return next && generation >= next_generation ? next : current;
  }
};

// One ServiceAccount, shared by its pods and all workers.
class Account {
 public:
  Account();
  std::shared_ptr<const Versions> versions() const { return versions_.load(std::memory_order_acquire); }
  void Publish(std::shared_ptr<const Versions> versions) { versions_.store(std::move(versions)); }

 private:
  std::atomic<std::shared_ptr<const Versions>> versions_;
};

// All ServiceAccounts. Owned by the control thread; only Account is shared.
class Accounts {
 public:
  // Stages a change; nothing is visible before Commit(). `document` as in policy::FromDocument().
  Result<void> SetPolicy(const policy::ObjectId& id, std::string_view document);
  void RemovePolicy(const policy::ObjectId& id);

  // Builds the indexes of the ServiceAccounts touched since the last call and publishes them from `generation` on.
  void Commit(std::uint32_t generation);

  // The account of that name, made if it is new.
  std::shared_ptr<Account> Of(const policy::ServiceAccount& name);

 private:
  struct Entry {
    std::shared_ptr<Account> account;
    PolicySetBuilder policies;
  };
  void Detach(const policy::ObjectId& id);
  void Retire(std::shared_ptr<const Versions> versions);

  std::map<policy::ObjectId, policy::PolicyPtr> policies_;
  std::map<policy::ServiceAccount, Entry> entries_;
  std::set<policy::ServiceAccount> touched_;
  // What was replaced is freed here, some changes later, so that no worker pays for taking an index apart.
  std::deque<std::shared_ptr<const Versions>> retired_;
};

}  // namespace egress::proxy
