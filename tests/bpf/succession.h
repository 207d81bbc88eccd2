// What one agent leaves to the next in the maps, seen by one of the parts that keep them up to date.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "agent/datapath/kernel_object.h"

namespace egress::test {

// `Sync` is made of a KernelObject: RuleSync, DocumentSync.
template <typename Sync>
class Succession : public testing::Test {
 protected:
  ~Succession() override { (void)datapath::RemovePins(bpffs_); }

  // The next agent on this node.
  void Start() {
    sync_.reset();
    kernel_.reset();
    auto kernel = datapath::KernelObject::Load(bpffs_);
    ASSERT_TRUE(kernel) << kernel.error().message;
    kernel_ = *std::move(kernel);
    ASSERT_TRUE(kernel_->Publish());
    sync_ = std::make_unique<Sync>(*kernel_);
  }

  template <typename Key, typename Value>
  std::size_t Count(const char* map) const {
    std::size_t count = 0;
    kernel_->Map<Key, Value>(map).ForEachKey([&](const Key&) { ++count; });
    return count;
  }

  const std::string bpffs_ = "/sys/fs/bpf/egress-test-" + std::to_string(::getpid()) + "-succession";
  std::unique_ptr<datapath::KernelObject> kernel_;
  std::unique_ptr<Sync> sync_;
};

}  // namespace egress::test
