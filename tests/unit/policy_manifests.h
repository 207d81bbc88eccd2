// Manifests and helpers that the tests of the policy layer share.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/policy/effective.h"
#include "agent/policy/model.h"

namespace egress::policy {

inline constexpr const char* kEnrolledNamespace =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: curl, labels: {openservicemesh.io/monitored-by: osm}}\n";

// The findings as they are printed, one a line.
inline std::string TextOf(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) text += finding.ToString() + "\n";
  return text;
}

inline Address Ip(std::string_view text) { return ParseAddress(text).value(); }
inline Prefix Cidr(std::string_view text) { return text == "any" ? Prefix{} : ParsePrefix(text).value(); }

}  // namespace egress::policy
