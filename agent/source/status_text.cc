#include "agent/source/status_text.h"

#include "agent/base/json_fields.h"

namespace egress::source {

std::string Explain(const HttpClient::Outcome& outcome, const std::string& server) {
  if (outcome.status == 0) return "cannot reach " + server + ": " + outcome.error;
  if (!outcome.error.empty()) return "the answer of " + server + " breaks off: " + outcome.error;
  std::string text = std::to_string(outcome.status);
  const auto status = nlohmann::json::parse(outcome.body, nullptr, false);
  if (const std::string message = TextAt(status, "message"); !message.empty()) {
    text += ": " + message;
  } else if (!outcome.body.empty()) {
    text += ": " + outcome.body.substr(0, 200);
  }
  if (outcome.status == 401) text += " (the token or certificate is not accepted)";
  if (outcome.status == 403) text += " (grant it with RBAC)";
  return text;
}

}  // namespace egress::source
