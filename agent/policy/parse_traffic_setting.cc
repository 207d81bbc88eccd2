// UpstreamTrafficSetting.

#include <limits>

#include "agent/policy/duration.h"
#include "agent/policy/parse.h"
#include "agent/policy/schema.h"
#include "agent/policy/schema_tables.h"

namespace egress::policy {
namespace {

const Schema& SettingSchema() {
  static const Schema schema(TrafficSettingFields());
  return schema;
}

// A count of spec.connectionSettings.
std::optional<std::uint32_t> CountAt(const Node& root, const std::string& path, Report* report) {
  const Node* node = root.FindPath(path);
  if (node == nullptr || node->type != Node::Type::kInteger) return std::nullopt;
  const auto value = IntegerOf(*node);
  if (!value || *value < 0) return std::nullopt;  // reported by the schema
  if (*value > std::numeric_limits<std::uint32_t>::max()) {
    report->Error(node->line, path, "must be at most 4294967295, is " + node->text);
    return std::nullopt;
  }
  return static_cast<std::uint32_t>(*value);
}

}  // namespace

void ParseTrafficSetting(const Node& root, UpstreamTrafficSetting* setting, Report* report) {
  SettingSchema().Check(root, report);
  const Node* spec = root.Find("spec");
  if (spec == nullptr) {
    report->Error(root.line, "spec", "is missing; it is required");
    return;
  }
  const std::string connections = "spec.connectionSettings.";
  Limits& limits = setting->limits;
  limits.max_connections = CountAt(root, connections + "tcp.maxConnections", report);
  limits.max_requests = CountAt(root, connections + "http.maxRequests", report);
  limits.max_pending_requests = CountAt(root, connections + "http.maxPendingRequests", report);
  limits.max_requests_per_connection = CountAt(root, connections + "http.maxRequestsPerConnection", report);
  // As in Envoy: a connection without a single request has no meaning, so 0 is "no limit" here and only here.
  if (limits.max_requests_per_connection == 0) limits.max_requests_per_connection.reset();

  const std::string timeout_path = connections + "tcp.connectTimeout";
  if (const Node* timeout = root.FindPath(timeout_path); timeout != nullptr && timeout->IsString()) {
    limits.connect_timeout_ms = ParseDuration(timeout->text);
    if (!limits.connect_timeout_ms) {
      report->Error(timeout->line, timeout_path,
                    Quoted(timeout->text) + " is no duration above 0; write it as 5s, 1m30s or 250ms");
    }
  }
  for (const char* path : {"spec.rateLimit", "spec.httpRoutes", "spec.connectionSettings.http.maxRetries",
                           "spec.connectionSettings.http.circuitBreaking"}) {
    if (const Node* node = root.FindPath(path)) {
      report->Warning(node->line, path, "is not supported yet; it has no effect");
    }
  }
}

}  // namespace egress::policy
