// Limits of an UpstreamTrafficSetting, counted for each pod and Egress across all workers.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "agent/policy/model.h"

namespace egress::proxy {

// What one pod has in use of one policy.
struct Usage {
  std::atomic<std::uint32_t> connections{0};
  std::atomic<std::uint32_t> requests{0};
  std::atomic<std::uint32_t> pending{0};
};

// One unit of a count, given back when it goes out of scope. Empty where nothing is limited.
class Share {
 public:
  Share() = default;
  // Nothing where the limit is reached.
  static std::optional<Share> Take(std::shared_ptr<Usage> usage, std::atomic<std::uint32_t> Usage::*count,
                                   std::optional<std::uint32_t> limit);
  Share(Share&& other) noexcept : usage_(std::move(other.usage_)), count_(other.count_) { other.usage_.reset(); }
  Share& operator=(Share&& other) noexcept;
  ~Share() { Release(); }
  void Release();
  bool CountsAgainst(const Usage* usage) const { return usage != nullptr && usage_.get() == usage; }

 private:
  std::shared_ptr<Usage> usage_;
  std::atomic<std::uint32_t> Usage::*count_ = nullptr;
};

// The usages of one pod, made as they are needed. Thread-safe.
class UsageTable {
 public:
  std::shared_ptr<Usage> Of(const policy::ObjectId& policy);

 private:
  std::mutex mutex_;
  std::map<policy::ObjectId, std::shared_ptr<Usage>> usages_;
};

}  // namespace egress::proxy
