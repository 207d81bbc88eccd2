// Metrics: the counters of the agent in Prometheus' text format. It belongs to one thread, the agent's loop; the
// pages (pages.h) ask for the text in that thread.
//
// Labels are bounded by what the node has: namespaces and ServiceAccounts of its pods, codes, verdicts and reasons
// that are known here. Values from elsewhere are counted as "other".
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/policy/model.h"
#include "bpf/egress.h"
#include "cmd/egressd/status.h"

namespace egress::report {

// A counter of the kernel (`stats`), with the pod that its slot stands for.
struct ConnectionCount {
  std::uint64_t pod = 0;  // netns cookie: tells the pods apart that had the same slot one after the other
  policy::ServiceAccount account;
  egress_protocol protocol = EGRESS_TCP;
  egress_verdict verdict = EGRESS_DENY;
  egress_reason reason = EGRESS_REASON_NONE;
  std::uint64_t total = 0;  // since the slot was given to the pod, summed over the CPUs
};

class Metrics {
 public:
  explicit Metrics(const std::string& version);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // What is asked at each scrape.
  void SetConnectionSource(std::function<std::vector<ConnectionCount>()> source);
  void SetMapSource(std::function<std::vector<MapUse>()> source);

  // Takes over what the kernel counted up to now. To be called before the counters of a pod that goes are deleted;
  // what it counted stays with its namespace and ServiceAccount.
  void UpdateConnections();

  void SetPolicies(int valid, int invalid);
  void SetPods(int governed, int ungoverned);
  void SetSourceAge(double seconds);
  void ObservePolicyApply(std::chrono::nanoseconds time);  // change read -> in force
  void CountHttpRequests(const policy::ServiceAccount& account, int code, std::string_view verdict,
                         std::uint64_t count);
  void CountEventsLost(std::uint64_t count);

  // The page: text/plain; version=0.0.4.
  std::string Text();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace egress::report
