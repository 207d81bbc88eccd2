// RuleSync: what one agent leaves to the next, and one change to another.

#include "agent/datapath/rule_sync.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <set>
#include <string>
#include <tuple>

#include "agent/policy/compile.h"
#include "tests/bpf/random_world.h"

namespace egress::datapath {
namespace {

class RuleSyncTest : public testing::Test {
 protected:
  ~RuleSyncTest() override { (void)RemovePins(bpffs_); }

  // The next agent on this node.
  void Start() {
    rules_.reset();
    kernel_.reset();
    auto kernel = KernelObject::Load(bpffs_);
    ASSERT_TRUE(kernel) << kernel.error().message;
    kernel_ = *std::move(kernel);
    ASSERT_TRUE(kernel_->Publish());
    rules_ = std::make_unique<RuleSync>(*kernel_);
  }
  std::set<std::uint32_t> Ids() const {
    std::set<std::uint32_t> ids;
    kernel_->Map<std::uint32_t, struct policy>("policies").ForEachKey([&](std::uint32_t id) { ids.insert(id); });
    return ids;
  }
  template <typename Key, typename Value>
  std::size_t Count(const char* map) const {
    std::size_t count = 0;
    kernel_->Map<Key, Value>(map).ForEachKey([&](const Key&) { ++count; });
    return count;
  }
  // Entries of `rules`, `hosts` and `classes`.
  std::tuple<std::size_t, std::size_t, std::size_t> Entries() const {
    return {Count<rule_key, struct rule>("rules"), Count<host_key, struct host>("hosts"),
            Count<std::uint32_t, rule_class>("classes")};
  }

  const std::string bpffs_ = "/sys/fs/bpf/egress-test-" + std::to_string(::getpid()) + "-rules";
  std::unique_ptr<KernelObject> kernel_;
  std::unique_ptr<RuleSync> rules_;
};

TEST_F(RuleSyncTest, APolicyDeletedWhileNoAgentRanGoesWithTheFirstSweep) {
  const policy::ObjectId gone{"curl", "gone"}, stays{"curl", "stays"};
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(rules_->SetPolicy(gone, {}));
  ASSERT_TRUE(rules_->SetPolicy(stays, {}));
  const std::uint32_t gone_id = rules_->PolicyId(gone), stays_id = rules_->PolicyId(stays);
  ASSERT_EQ(Ids(), (std::set{gone_id, stays_id}));

  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(rules_->SetPolicy(stays, {}));
  EXPECT_EQ(Ids(), (std::set{gone_id, stays_id})) << "connections may still bear the other's name";
  rules_->SweepForeign();
  EXPECT_EQ(Ids(), std::set{stays_id});
  EXPECT_EQ(rules_->PolicyId(stays), stays_id) << "connections that count against its limit stay counted";
  EXPECT_EQ(rules_->PolicyId(gone), 0u);
  EXPECT_EQ(rules_->PolicyName(gone_id), "curl/gone") << "for the events of what it had allowed";
  ASSERT_TRUE(rules_->SetPolicy(gone, {})) << "made again";
  EXPECT_NE(rules_->PolicyId(gone), gone_id);
  EXPECT_EQ(Ids().size(), 2u);
}

TEST_F(RuleSyncTest, TheMapsHoldWhatTheRulesAreMadeOfAndNoMoreAfterAnyChange) {
  ASSERT_NO_FATAL_FAILURE(Start());
  const policy::ServiceAccount account{"curl", "curl"};
  test::RandomWorld world(7);
  auto policies = world.Policies("curl");
  for (std::uint32_t generation = 1; generation <= 200; ++generation) {
    for (const auto& policy : policies) ASSERT_TRUE(rules_->SetPolicy(policy->id, policy->limits));
    const policy::RuleSet next = policy::Compile(policies);
    std::size_t names = 0;
    for (const policy::HostGroup& group : next.groups) names += group.names.size();
    ASSERT_TRUE(rules_->Stage(generation, account, next));
    rules_->Sweep();
    ASSERT_EQ(Entries(), std::tuple(next.rules.size(), names, next.classes.size())) << "generation " << generation;
    policies = world.Change("curl", std::move(policies));
  }
  rules_->Forget(account);
  rules_->Sweep();
  EXPECT_EQ(Entries(), std::tuple(0U, 0U, 0U));
}

}  // namespace
}  // namespace egress::datapath
