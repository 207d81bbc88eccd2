// RuleSync: what one agent leaves to the next, and one change to another.

#include "agent/datapath/rule_sync.h"

#include <set>
#include <string>
#include <tuple>

#include "agent/policy/compile.h"
#include "tests/bpf/random_world.h"
#include "tests/bpf/succession.h"

namespace egress::datapath {
namespace {

class RuleSyncTest : public test::Succession<RuleSync> {
 protected:
  std::set<std::uint32_t> Ids() const {
    std::set<std::uint32_t> ids;
    kernel_->Map<std::uint32_t, struct policy>("policies").ForEachKey([&](std::uint32_t id) { ids.insert(id); });
    return ids;
  }
  // Entries of `rules`, `hosts` and `classes`.
  std::tuple<std::size_t, std::size_t, std::size_t> Entries() const {
    return {Count<rule_key, struct rule>("rules"), Count<host_key, struct host>("hosts"),
            Count<std::uint32_t, rule_class>("classes")};
  }
};

TEST_F(RuleSyncTest, APolicyDeletedWhileNoAgentRanGoesWithTheFirstSweep) {
  const policy::ObjectId gone{"curl", "gone"}, stays{"curl", "stays"};
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(sync_->SetPolicy(gone, {}));
  ASSERT_TRUE(sync_->SetPolicy(stays, {}));
  const std::uint32_t gone_id = sync_->PolicyId(gone), stays_id = sync_->PolicyId(stays);
  ASSERT_EQ(Ids(), (std::set{gone_id, stays_id}));

  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(sync_->SetPolicy(stays, {}));
  EXPECT_EQ(Ids(), (std::set{gone_id, stays_id})) << "connections may still bear the other's name";
  sync_->SweepForeign();
  EXPECT_EQ(Ids(), std::set{stays_id});
  EXPECT_EQ(sync_->PolicyId(stays), stays_id) << "connections that count against its limit stay counted";
  EXPECT_EQ(sync_->PolicyId(gone), 0u);
  EXPECT_EQ(sync_->PolicyName(gone_id), "curl/gone") << "for the events of what it had allowed";
  ASSERT_TRUE(sync_->SetPolicy(gone, {})) << "made again";
  EXPECT_NE(sync_->PolicyId(gone), gone_id);
  EXPECT_EQ(Ids().size(), 2u);
}

TEST_F(RuleSyncTest, TheMapsHoldWhatTheRulesAreMadeOfAndNoMoreAfterAnyChange) {
  ASSERT_NO_FATAL_FAILURE(Start());
  const policy::ServiceAccount account{"curl", "curl"};
  test::RandomWorld world(7);
  auto policies = world.Policies("curl");
  for (std::uint32_t generation = 1; generation <= 200; ++generation) {
    for (const auto& policy : policies) ASSERT_TRUE(sync_->SetPolicy(policy->id, policy->limits));
    const policy::RuleSet next = policy::Compile(policies);
    std::size_t names = 0;
    for (const policy::HostGroup& group : next.groups) names += group.names.size();
    ASSERT_TRUE(sync_->Stage(generation, account, next));
    sync_->Sweep();
    ASSERT_EQ(Entries(), std::tuple(next.rules.size(), names, next.classes.size())) << "generation " << generation;
    policies = world.Change("curl", std::move(policies));
  }
  sync_->Forget(account);
  sync_->Sweep();
  EXPECT_EQ(Entries(), std::tuple(0U, 0U, 0U));
}

}  // namespace
}  // namespace egress::datapath
