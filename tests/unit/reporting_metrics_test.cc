#include "cmd/egressd/metrics.h"

#include <gtest/gtest.h>

namespace egress::report {
namespace {

bool Has(const std::string& text, const std::string& line) { return text.find(line + "\n") != std::string::npos; }

TEST(Metrics, GaugesShowWhatWasSetLast) {
  Metrics metrics("1.2.3");
  metrics.SetPolicies(5, 4);
  metrics.SetPolicies(6, 3);
  metrics.SetPods(2, 1);
  const std::string text = metrics.Text();
  EXPECT_TRUE(Has(text, "egressd_policies{state=\"valid\"} 6")) << text;
  EXPECT_TRUE(Has(text, "egressd_policies{state=\"invalid\"} 3"));
  EXPECT_TRUE(Has(text, "egressd_pods{governed=\"true\"} 2"));
  EXPECT_TRUE(Has(text, "egressd_pods{governed=\"false\"} 1"));
  EXPECT_TRUE(Has(text, "egressd_build_info{version=\"1.2.3\"} 1"));
}

TEST(Metrics, EveryNameIsThereFromTheStart) {
  Metrics metrics("1.2.3");
  metrics.SetMapSource([] { return std::vector<MapUse>{{"rules", 10, 100}}; });
  const std::string text = metrics.Text();
  for (const char* name :
       {"egressd_connections_total", "egressd_policies", "egressd_pods", "egressd_policy_apply_seconds",
        "egressd_map_entries", "egressd_map_capacity", "egressd_events_lost_total", "egressd_build_info",
        "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds",
        "process_start_time_seconds", "process_virtual_memory_bytes"}) {
    EXPECT_NE(text.find(std::string("# TYPE ") + name + " "), std::string::npos) << name;
  }
  EXPECT_TRUE(Has(text, "egressd_map_entries{map=\"rules\"} 10"));
  EXPECT_TRUE(Has(text, "egressd_map_capacity{map=\"rules\"} 100"));
}

TEST(Metrics, ApplyTimeHasABucketAtFiftyMilliseconds) {
  Metrics metrics("1.2.3");
  metrics.ObservePolicyApply(std::chrono::milliseconds(3));
  metrics.ObservePolicyApply(std::chrono::milliseconds(60));
  const std::string text = metrics.Text();
  EXPECT_TRUE(Has(text, "egressd_policy_apply_seconds_bucket{le=\"0.05\"} 1")) << text;
  EXPECT_TRUE(Has(text, "egressd_policy_apply_seconds_bucket{le=\"0.1\"} 2"));
  EXPECT_TRUE(Has(text, "egressd_policy_apply_seconds_bucket{le=\"0.0005\"} 0"));
  EXPECT_TRUE(Has(text, "egressd_policy_apply_seconds_count 2"));
}

TEST(Metrics, RequestsAreCountedByCodeAndVerdictAndUnknownOnesTogether) {
  Metrics metrics("1.2.3");
  metrics.CountHttpRequests({"curl", "curl"}, 404, "deny", 2);
  metrics.CountHttpRequests({"curl", "curl"}, 404, "deny", 3);
  metrics.CountHttpRequests({"curl", "curl"}, 7, "maybe", 1);
  const std::string text = metrics.Text();
  EXPECT_NE(text.find("code=\"404\""), std::string::npos);
  EXPECT_NE(text.find("} 5\n"), std::string::npos);
  EXPECT_NE(text.find("code=\"other\""), std::string::npos);
  EXPECT_NE(text.find("verdict=\"other\""), std::string::npos);
}

class ConnectionCounts : public ::testing::Test {
 protected:
  ConnectionCounts() {
    metrics_.SetConnectionSource([this] { return counts_; });
  }
  static ConnectionCount Count(std::uint64_t pod, const char* account, std::uint64_t total) {
    return {pod, {"curl", account}, EGRESS_TCP, EGRESS_DENY, EGRESS_REASON_POLICY, total};
  }
  static std::string Line(const char* account, int value) {
    return "egressd_connections_total{namespace=\"curl\",service_account=\"" + std::string(account) +
           "\",protocol=\"tcp\",verdict=\"deny\",reason=\"policy\"} " + std::to_string(value);
  }
  Metrics metrics_{"1.2.3"};
  std::vector<ConnectionCount> counts_;
};

TEST_F(ConnectionCounts, PodsOfOneServiceAccountAreSummed) {
  counts_ = {Count(1, "curl", 3), Count(2, "curl", 4), Count(3, "db", 5)};
  const std::string text = metrics_.Text();
  EXPECT_TRUE(Has(text, Line("curl", 7))) << text;
  EXPECT_TRUE(Has(text, Line("db", 5))) << text;
}

TEST_F(ConnectionCounts, ScrapingTwiceDoesNotCountTwice) {
  counts_ = {Count(1, "curl", 3)};
  metrics_.Text();
  counts_ = {Count(1, "curl", 5)};
  EXPECT_TRUE(Has(metrics_.Text(), Line("curl", 5)));
}

TEST_F(ConnectionCounts, WhatAPodCountedStaysWhenItGoes) {
  counts_ = {Count(1, "curl", 3)};
  metrics_.UpdateConnections();
  counts_ = {};
  EXPECT_TRUE(Has(metrics_.Text(), Line("curl", 3)));
  counts_ = {Count(2, "curl", 2)};  // its successor
  EXPECT_TRUE(Has(metrics_.Text(), Line("curl", 5)));
}

TEST_F(ConnectionCounts, AKernelCounterThatBeginsAnewAddsUp) {
  counts_ = {Count(1, "curl", 10)};
  metrics_.Text();
  counts_ = {Count(1, "curl", 2)};
  EXPECT_TRUE(Has(metrics_.Text(), Line("curl", 12)));
}

}  // namespace
}  // namespace egress::report
