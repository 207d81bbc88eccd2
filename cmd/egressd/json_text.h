// JSON as text. Names and paths of requests come from pods and may be any bytes: what is not UTF-8 becomes U+FFFD,
// where nlohmann's default would throw.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace egress::report {

// On one line where `indent` is -1.
inline std::string JsonText(const nlohmann::json& json, int indent = -1) {
  return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace egress::report
