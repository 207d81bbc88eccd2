#include "agent/policy/report.h"

namespace egress::policy {

void Report::Error(int line, std::string field, std::string message) {
  ++errors_;
  findings_.push_back({Severity::kError, {file_, line}, kind_, object_, std::move(field), std::move(message)});
}

void Report::Warning(int line, std::string field, std::string message) {
  findings_.push_back({Severity::kWarning, {file_, line}, kind_, object_, std::move(field), std::move(message)});
}

std::string FieldPath(std::string_view parent, std::string_view name) {
  std::string path(parent);
  if (!path.empty()) path += '.';
  return path += name;
}

std::string ItemPath(std::string_view parent, std::size_t index) {
  return std::string(parent) + "[" + std::to_string(index) + "]";
}

std::string Quoted(std::string_view text) {
  constexpr std::size_t kShown = 120;
  std::string quoted = "\"";
  quoted += text.substr(0, kShown);
  return quoted += text.size() > kShown ? "...\"" : "\"";
}

}  // namespace egress::policy
