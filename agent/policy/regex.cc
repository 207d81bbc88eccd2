#include "agent/policy/regex.h"

#include <re2/re2.h>

#include <mutex>
#include <unordered_map>

namespace egress::policy {
namespace {

RE2::Options Options() {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_never_capture(true);
  options.set_longest_match(false);
  options.set_max_mem(static_cast<std::int64_t>(kMaxRegexMemory));
  return options;
}

// No character that means anything but itself: then comparing is enough.
bool IsLiteral(std::string_view pattern) { return pattern.find_first_of("\\^$.|?*+()[]{}") == std::string_view::npos; }

}  // namespace

Result<void> CheckRegex(std::string_view pattern) {
  if (pattern.size() > kMaxRegexBytes) {
    return Error{"is longer than the limit of " + std::to_string(kMaxRegexBytes) + " bytes for a regex; split it"};
  }
  const RE2 regex(re2::StringPiece(pattern.data(), pattern.size()), Options());
  if (regex.ok()) return {};
  if (regex.error_code() == RE2::ErrorPatternTooLarge) {
    return Error{"compiles to more than the limit of " + std::to_string(kMaxRegexMemory >> 20) +
                 " MiB for a regex; use smaller repetitions, or split it"};
  }
  return Error{"is not a regex that RE2 accepts: " + regex.error()};
}

struct Regex::Impl {
  std::string pattern;
  bool literal = false;
  std::once_flag once;
  std::unique_ptr<const RE2> compiled;
};

Regex::Regex(std::string pattern) : impl_(std::make_unique<Impl>()) {
  impl_->literal = IsLiteral(pattern);
  impl_->pattern = std::move(pattern);
}

Regex::~Regex() = default;

bool Regex::Matches(std::string_view text) const {
  if (impl_->literal) return text == impl_->pattern;
  std::call_once(impl_->once, [this] { impl_->compiled = std::make_unique<const RE2>(impl_->pattern, Options()); });
  return impl_->compiled->ok() && RE2::FullMatch(re2::StringPiece(text.data(), text.size()), *impl_->compiled);
}

std::shared_ptr<const Regex> SharedRegex(const std::string& pattern) {
  static std::mutex mutex;
  static auto* const known = new std::unordered_map<std::string, std::weak_ptr<const Regex>>();
  static std::size_t sweep_at = 1024;
  const std::lock_guard lock(mutex);
  std::weak_ptr<const Regex>& slot = (*known)[pattern];
  std::shared_ptr<const Regex> regex = slot.lock();
  if (regex == nullptr) {
    regex = std::make_shared<const Regex>(pattern);
    slot = regex;
  }
  if (known->size() >= sweep_at) {
    std::erase_if(*known, [](const auto& entry) { return entry.second.expired(); });
    sweep_at = std::max<std::size_t>(1024, known->size() * 2);
  }
  return regex;
}

}  // namespace egress::policy
