#include "agent/policy/model.h"

namespace egress::policy {

std::string Finding::ToString() const {
  std::string text;
  if (!location.file.empty()) text += location.file + ":" + std::to_string(location.line) + ": ";
  text += severity == Severity::kError ? "error: " : "warning: ";
  const std::string id = object.ToString();
  if (!kind.empty()) text += kind;
  if (!id.empty()) text += (kind.empty() ? "" : " ") + id;
  if (!kind.empty() || !id.empty()) text += ": ";
  if (!field.empty()) text += field + ": ";
  return text + message;
}

const char* ProtocolName(Protocol protocol) {
  switch (protocol) {
    case Protocol::kHttp: return "http";
    case Protocol::kHttps: return "https";
    case Protocol::kTcp: return "tcp";
    case Protocol::kTcpServerFirst: return "tcp-server-first";
  }
  return "";
}

}  // namespace egress::policy
