// DocumentSync: what one agent leaves to the next.

#include "agent/datapath/document_sync.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>

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

class DocumentSyncTest : public testing::Test {
 protected:
  ~DocumentSyncTest() override { (void)RemovePins(bpffs_); }

  // The next agent on this node.
  void Start() {
    documents_.reset();
    kernel_.reset();
    auto kernel = KernelObject::Load(bpffs_);
    ASSERT_TRUE(kernel) << kernel.error().message;
    kernel_ = *std::move(kernel);
    ASSERT_TRUE(kernel_->Publish());
    documents_ = std::make_unique<DocumentSync>(*kernel_);
  }
  std::size_t Entries() const {
    std::size_t count = 0;
    kernel_->Map<route_key, struct route>("routes").ForEachKey([&](const route_key&) { ++count; });
    return count;
  }

  const std::string bpffs_ = "/sys/fs/bpf/egress-test-" + std::to_string(::getpid()) + "-documents";
  std::unique_ptr<KernelObject> kernel_;
  std::unique_ptr<DocumentSync> documents_;
};

TEST_F(DocumentSyncTest, WhatWasAdoptedIsServedAndThenSharedWithWhoKnowsIt) {
  const policy::PolicyPtr first = PolicyOf("one.test");
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(documents_->Stage(1, first->id, first));
  ASSERT_EQ(Entries(), 1U);

  ASSERT_NO_FATAL_FAILURE(Start());
  documents_->Adopt(1);
  ASSERT_NE(documents_->Current(first->id), nullptr);
  EXPECT_EQ(*documents_->Current(first->id), *first);
  const policy::PolicyPtr again = PolicyOf("one.test");
  ASSERT_TRUE(documents_->Stage(2, again->id, again));
  EXPECT_EQ(documents_->Current(again->id), again) << "there are two copies of it in memory";
  documents_->Sweep();
  EXPECT_EQ(Entries(), 1U) << "written again, or ended";

  const policy::PolicyPtr other = PolicyOf("other.test");
  ASSERT_TRUE(documents_->Stage(3, other->id, other));
  EXPECT_EQ(documents_->Current(other->id), other);
  EXPECT_EQ(Entries(), 2U) << "the one before stays for who still reads it";
  documents_->Sweep();
  EXPECT_EQ(Entries(), 1U);
}

}  // namespace
}  // namespace egress::datapath
