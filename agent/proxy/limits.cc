#include "agent/proxy/limits.h"

namespace egress::proxy {

std::optional<Share> Share::Take(std::shared_ptr<Usage> usage, std::atomic<std::uint32_t> Usage::*count,
                                 std::optional<std::uint32_t> limit) {
  Share share;
  if (!usage) return share;
  // Counted even without a limit of its own: a change of the setting may bring one.
  const std::uint32_t before = ((*usage).*count).fetch_add(1, std::memory_order_relaxed);
  share.usage_ = std::move(usage);
  share.count_ = count;
  if (limit && before >= *limit) return std::nullopt;
  return share;
}

Share& Share::operator=(Share&& other) noexcept {
  if (this == &other) return *this;
  Release();
  usage_ = std::move(other.usage_);
  other.usage_.reset();
  count_ = other.count_;
  return *this;
}

void Share::Release() {
  if (usage_) ((*usage_).*count_).fetch_sub(1, std::memory_order_relaxed);
  usage_.reset();
}

std::shared_ptr<Usage> UsageTable::Of(const policy::ObjectId& policy) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<Usage>& usage = usages_[policy];
  if (!usage) usage = std::make_shared<Usage>();
  return usage;
}

}  // namespace egress::proxy
