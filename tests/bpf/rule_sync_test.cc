// RuleSync: what one agent leaves to the next.

#include "agent/datapath/rule_sync.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <set>
#include <string>

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

}  // namespace
}  // namespace egress::datapath
