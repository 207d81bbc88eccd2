#include <array>

#include "agent/policy/decide.h"

namespace egress::policy {
namespace {

// In the order of enum egress_reason.
constexpr std::array<const char*, EGRESS_REASON_MAX> kNames = {
    "none",
    "policy",
    "sni-mismatch",
    "no-sni",
    "not-tls",
    "http-host",
    "http-route",
    "http-malformed",
    "protocol",
    "fragment",
    "malformed-packet",
    "spoofed-source",
    "no-socket",
    "revoked",
    "limit",
    "proxy-unavailable",
    "table-full",
    "host-binding",
    "rule",
    "mesh",
    "excluded",
    "dns",
    "open",
    "inbound",
};

}  // namespace

const char* ReasonName(egress_reason reason) {
  const auto index = static_cast<std::size_t>(reason);
  return index < kNames.size() ? kNames[index] : "unknown";
}

std::optional<egress_reason> ReasonFromName(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<egress_reason>(i);
  }
  return std::nullopt;
}

}  // namespace egress::policy
