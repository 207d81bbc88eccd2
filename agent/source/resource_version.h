// The order of resourceVersions. They are decimal numbers of any length; what is none counts as
// newer than anything, so that it is never passed over.
#pragma once

#include <algorithm>
#include <string_view>

namespace egress::source {

inline bool IsOlder(std::string_view a, std::string_view b) {
  const auto number = [](std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  if (!number(a) || !number(b)) return false;
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

}  // namespace egress::source
