// Regex: RE2 as this project uses it: the whole text must match, memory is bounded, nothing is captured.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace egress::policy {

inline constexpr std::size_t kMaxRegexBytes = 4096;
inline constexpr std::size_t kMaxRegexMemory = 1U << 20;  // of RE2: program and automata

// What RE2 refuses, and what is over a limit (which the error names).
Result<void> CheckRegex(std::string_view pattern);

// A pattern that CheckRegex() has accepted; one that it has not matches nothing. Compiled when it is first used, since
// most patterns of a large policy never are. Safe to share between threads.
class Regex {
 public:
  explicit Regex(std::string pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  bool Matches(std::string_view text) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The Regex of a pattern, shared as long as anybody holds it: a change of policy compiles no pattern again.
std::shared_ptr<const Regex> SharedRegex(const std::string& pattern);

}  // namespace egress::policy
