#include "cmd/egressctl/rules.h"

#include "cmd/egressctl/output.h"

namespace egress::ctl {

using nlohmann::json;

namespace {

json RouteToJson(const policy::HttpMatch& match) {
  json route = {{"name", match.name}, {"path", nullptr}, {"methods", match.methods}, {"headers", json::array()}};
  if (match.path_regex) route["path"] = *match.path_regex;
  for (const auto& [name, regex] : match.headers) route["headers"].push_back(json::object({{name, regex}}));
  return route;
}

json LimitsToJson(const policy::Limits& limits) {
  json result = json::object();
  const std::pair<const char*, const std::optional<std::uint32_t>&> all[] = {
      {"maxConnections", limits.max_connections},
      {"connectTimeoutMs", limits.connect_timeout_ms},
      {"maxRequests", limits.max_requests},
      {"maxRequestsPerConnection", limits.max_requests_per_connection},
      {"maxPendingRequests", limits.max_pending_requests}};
  for (const auto& [name, value] : all) {
    if (value) result[name] = *value;
  }
  return result;
}

std::string Join(const json& texts) {
  std::string result;
  for (const json& text : texts) result += (result.empty() ? "" : ",") + text.get<std::string>();
  return result;
}

json Row(const datapath::PodPolicy& pod, const policy::EffectivePolicy& policy, const policy::Port& port,
         const Prefix& cidr) {
  const bool named = port.protocol == policy::Protocol::kHttp || port.protocol == policy::Protocol::kHttps;
  const bool all_routes = port.protocol != policy::Protocol::kHttp || policy.all_routes;
  json row = {{"pod", pod.pod.name()},
              {"serviceAccount", pod.pod.service_account()},
              {"policy", policy.id.ToString()},
              {"port", port.number},
              {"protocol", policy::ProtocolName(port.protocol)},
              {"cidr", cidr.ToString()},
              {"hosts", named ? json(policy.hosts) : json::array()},
              {"routes", json::array()},
              {"allRoutes", all_routes},
              {"limits", LimitsToJson(policy.limits)}};
  if (!all_routes) {
    for (const policy::HttpMatch& match : policy.routes) row["routes"].push_back(RouteToJson(match));
  }
  return row;
}

}  // namespace

json RuleRows(const std::vector<datapath::PodPolicy>& pods) {
  json rows = json::array();
  for (const datapath::PodPolicy& pod : pods) {
    for (const policy::PolicyPtr& policy : pod.policies) {
      for (const policy::Port& port : policy->ports) {
        for (const Prefix& cidr : policy->cidrs) rows.push_back(Row(pod, *policy, port, cidr));
      }
    }
  }
  return rows;
}

std::string RoutesInWords(const json& row) {
  if (row["allRoutes"].get<bool>()) return "all";
  if (row["routes"].empty()) return "none";
  std::string text;
  for (const json& route : row["routes"]) {
    std::string words = Join(route["methods"]);
    if (!route["path"].is_null()) words += (words.empty() ? "" : " ") + route["path"].get<std::string>();
    for (const json& header : route["headers"]) {
      for (const auto& [name, regex] : header.items()) {
        words += (words.empty() ? "" : " ") + name + "=" + regex.get<std::string>();
      }
    }
    text += (text.empty() ? "" : "; ") + (words.empty() ? "all" : words);
  }
  return text;
}

std::string RuleTable(const json& rows) {
  std::vector<std::vector<std::string>> lines;
  for (const json& row : rows) {
    lines.push_back({row["pod"], row["serviceAccount"], row["policy"], std::to_string(row["port"].get<int>()),
                     row["protocol"], row["cidr"], Join(row["hosts"]),
                     row["protocol"] == "http" ? RoutesInWords(row) : ""});
  }
  return Table({"POD", "SERVICEACCOUNT", "POLICY", "PORT", "PROTOCOL", "CIDR", "HOSTS", "ROUTES"}, lines);
}

}  // namespace egress::ctl
