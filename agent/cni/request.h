// Request: what egress-cni tells the agent, one JSON document on one line; also the text that its deny program carries.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/result.h"

namespace egress::cni {

// The answers, one line each. Anything else, or none, is no answer: then it has to be denied.
inline constexpr std::string_view kInForce = "in-force";          // ADD: the pod's rules are
inline constexpr std::string_view kNotGoverned = "not-governed";  // ADD: the pod is none of ours
inline constexpr std::string_view kDone = "done";                 // DEL

struct Request {
  std::string command;  // "ADD", "DEL"
  std::string pod_namespace;
  std::string pod_name;
  std::string pod_uid;  // empty where the runtime does not give it
  std::string container_id;
  std::string netns;      // path; may be empty for a DEL
  std::string interface;  // host side of the veth; empty: there is none
  std::vector<Address> addresses;
  bool operator==(const Request&) const = default;

  // Without a newline.
  std::string ToText() const;
};

// Fails where a field is missing or of another type. Fields that are not known are skipped.
Result<Request> ParseRequest(std::string_view text);

}  // namespace egress::cni
