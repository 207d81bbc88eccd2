#include "agent/policy/duration.h"

#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace egress::policy {
namespace {

// Longer units first, so that "ms" is not read as "m".
constexpr std::array<std::pair<std::string_view, double>, 8> kUnits = {{
    {"ns", 1e-6},
    {"us", 1e-3},
    {"\xc2\xb5s", 1e-3},
    {"\xce\xbcs", 1e-3},
    {"ms", 1},
    {"s", 1e3},
    {"m", 6e4},
    {"h", 3.6e6},
}};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Takes a decimal number off the front.
std::optional<double> TakeNumber(std::string_view* text) {
  double value = 0;
  double place = 1;
  bool dot = false;
  int digits = 0;
  while (!text->empty() && (IsDigit(text->front()) || (text->front() == '.' && !dot))) {
    if (text->front() == '.') {
      dot = true;
    } else {
      ++digits;
      value = dot ? value + (text->front() - '0') * (place /= 10) : value * 10 + (text->front() - '0');
    }
    text->remove_prefix(1);
  }
  if (digits == 0) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::uint32_t> ParseDuration(std::string_view text) {
  if (text.empty() || text.size() > 64) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    const auto number = TakeNumber(&text);
    if (!number) return std::nullopt;
    bool known = false;
    for (const auto& [unit, milliseconds] : kUnits) {
      if (!text.starts_with(unit)) continue;
      total += *number * milliseconds;
      text.remove_prefix(unit.size());
      known = true;
      break;
    }
    if (!known) return std::nullopt;
  }
  total = std::ceil(total);
  if (!(total >= 1) || total > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  return static_cast<std::uint32_t>(total);
}

}  // namespace egress::policy
