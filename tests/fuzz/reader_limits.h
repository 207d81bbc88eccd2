// What may be written although the same parser would not read it.
#pragma once

#include <algorithm>
#include <string_view>

#include "agent/proxy/http_fields.h"

// Whether a written head is over the limits of a head that is read: the fields that the proxy adds to one that was read
// at its limits (Connection, a space behind each colon) take it past them.
inline bool IsPastReaderLimits(std::string_view head) {
  const auto lines = std::count(head.begin(), head.end(), '\n');
  const auto fields = static_cast<std::size_t>(lines) - 2;  // but the first line and the empty one
  return fields > egress::proxy::kMaxHeaders || head.size() > egress::proxy::kMaxHeadBytes;
}
