// DocumentSync: what one agent leaves to the next.

#include "agent/datapath/document_sync.h"

#include <memory>
#include <string>

#include "tests/bpf/succession.h"

namespace egress::datapath {
namespace {

policy::PolicyPtr PolicyOf(const std::string& host) {
  policy::EffectivePolicy policy;
  policy.id = {"curl", "web"};
  policy.service_accounts = {{"curl", "curl"}};
  policy.ports = {{80, policy::Protocol::kHttp}};
  policy.cidrs = {Prefix{}};
  policy.hosts = {host};
  return std::make_shared<const policy::EffectivePolicy>(std::move(policy));
}

class DocumentSyncTest : public test::Succession<DocumentSync> {
 protected:
  std::size_t Entries() const { return Count<route_key, struct route>("routes"); }
};

TEST_F(DocumentSyncTest, WhatWasAdoptedIsServedAndThenSharedWithWhoKnowsIt) {
  const policy::PolicyPtr first = PolicyOf("one.test");
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(sync_->Stage(1, first->id, first));
  ASSERT_EQ(Entries(), 1U);

  ASSERT_NO_FATAL_FAILURE(Start());
  sync_->Adopt(1);
  ASSERT_NE(sync_->Current(first->id), nullptr);
  EXPECT_EQ(*sync_->Current(first->id), *first);
  const policy::PolicyPtr again = PolicyOf("one.test");
  ASSERT_TRUE(sync_->Stage(2, again->id, again));
  EXPECT_EQ(sync_->Current(again->id), again) << "there are two copies of it in memory";
  sync_->Sweep();
  EXPECT_EQ(Entries(), 1U) << "written again, or ended";

  const policy::PolicyPtr other = PolicyOf("other.test");
  ASSERT_TRUE(sync_->Stage(3, other->id, other));
  EXPECT_EQ(sync_->Current(other->id), other);
  EXPECT_EQ(Entries(), 2U) << "the one before stays for who still reads it";
  sync_->Sweep();
  EXPECT_EQ(Entries(), 1U);
}

}  // namespace
}  // namespace egress::datapath
