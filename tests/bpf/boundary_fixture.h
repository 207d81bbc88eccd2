// Boundary: the suite of tests that share one GuardedPod, in enforce mode and with nothing but PlainNetwork() at first.
#pragma once

#include <gtest/gtest.h>

#include "bpf/egress.h"
#include "tests/bpf/guarded_pod.h"

namespace egress::test {

class Boundary : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto made = GuardedPod::Make();
    ASSERT_TRUE(made) << made.error().message;
    pod_ = made->release();
  }
  static void TearDownTestSuite() {
    delete pod_;
    pod_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(pod_, nullptr);
    pod_->SetMode({});
    ASSERT_TRUE(pod_->SetNetwork(PlainNetwork()));
    // Each test may have all the events of a second.
    ASSERT_TRUE((pod_->kernel().Map<std::uint32_t, event_budget>("budgets").Set(pod_->slot(), {})));
    pod_->TakeTold();
  }

  // What leaves passes as it is, and nothing is told.
  static void ExpectPasses(const Packet& packet, const char* what) { ExpectPasses(Frame(packet), what); }
  static void ExpectPasses(const Bytes& frame, const char* what) {
    const Outcome outcome = pod_->Leave(frame);
    EXPECT_TRUE(outcome.passed()) << what << ": action " << outcome.action;
    EXPECT_EQ(outcome.frame, frame) << what << ": rewritten";
    EXPECT_EQ(pod_->TakeTold(), Told{}) << what << ": told as if it were refused";
  }

  inline static GuardedPod* pod_ = nullptr;
};

}  // namespace egress::test
