// The JSON document of one policy, as it stands in the `routes` map.

#include <nlohmann/json.hpp>

#include "agent/policy/effective.h"

namespace egress::policy {
namespace {

using Json = nlohmann::json;

struct LimitField {
  const char* key;
  std::optional<std::uint32_t> Limits::*member;
};

constexpr LimitField kLimits[] = {
    {"maxConnections", &Limits::max_connections},
    {"connectTimeoutMs", &Limits::connect_timeout_ms},
    {"maxRequests", &Limits::max_requests},
    {"maxRequestsPerConnection", &Limits::max_requests_per_connection},
    {"maxPendingRequests", &Limits::max_pending_requests},
};

Json RouteToJson(const HttpMatch& route) {
  Json headers = Json::array();
  for (const auto& [name, regex] : route.headers) headers.push_back(Json::array({name, regex}));
  return {{"name", route.name},
          {"path", route.path_regex ? Json(*route.path_regex) : Json()},
          {"methods", route.methods},
          {"headers", std::move(headers)}};
}

// The readers below throw std::runtime_error or one of nlohmann's exceptions; FromDocument() catches both.
[[noreturn]] void Refuse(const std::string& what) { throw std::runtime_error(what); }

ObjectId ReadId(const Json& json) {
  const auto& text = json.get_ref<const std::string&>();
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == text.size()) Refuse("\"" + text + "\" is not NS/NAME");
  return {text.substr(0, slash), text.substr(slash + 1)};
}

Prefix ReadPrefix(const Json& json) {
  const auto& text = json.get_ref<const std::string&>();
  if (text == "any") return Prefix{};
  const auto prefix = ParsePrefix(text);
  if (!prefix) Refuse("\"" + text + "\" is not a CIDR");
  return *prefix;
}

Port ReadPort(const Json& json) {
  const auto number = json.at("number").get<std::int64_t>();
  if (number < 1 || number > 65535) Refuse("port " + std::to_string(number) + " is not in 1..65535");
  const auto& name = json.at("protocol").get_ref<const std::string&>();
  for (const Protocol protocol : {Protocol::kHttp, Protocol::kHttps, Protocol::kTcp, Protocol::kTcpServerFirst}) {
    if (name == ProtocolName(protocol)) return {static_cast<std::uint16_t>(number), protocol};
  }
  Refuse("protocol \"" + name + "\" is unknown");
}

HttpMatch ReadRoute(const Json& json) {
  HttpMatch route;
  route.name = json.at("name").get<std::string>();
  if (!json.at("path").is_null()) route.path_regex = json.at("path").get<std::string>();
  route.methods = json.at("methods").get<std::vector<std::string>>();
  for (const Json& header : json.at("headers")) {
    route.headers.emplace_back(header.at(0).get<std::string>(), header.at(1).get<std::string>());
  }
  return route;
}

Limits ReadLimits(const Json& json) {
  Limits limits;
  for (const LimitField& field : kLimits) {
    const auto found = json.find(field.key);
    if (found == json.end()) continue;
    if (!found->is_number_unsigned()) Refuse(std::string("limit ") + field.key + " is no count");
    const auto value = found->get<std::uint64_t>();
    if (value > std::numeric_limits<std::uint32_t>::max()) Refuse(std::string("limit ") + field.key + " is too large");
    limits.*field.member = static_cast<std::uint32_t>(value);
  }
  return limits;
}

EffectivePolicy ReadPolicy(const Json& json) {
  EffectivePolicy policy;
  policy.id = ReadId(json.at("policy"));
  for (const Json& account : json.at("serviceAccounts")) policy.service_accounts.push_back(ReadId(account));
  for (const Json& port : json.at("ports")) policy.ports.push_back(ReadPort(port));
  for (const Json& prefix : json.at("cidrs")) policy.cidrs.push_back(ReadPrefix(prefix));
  policy.hosts = json.at("hosts").get<std::vector<std::string>>();
  const Json& routes = json.at("routes");
  policy.all_routes = routes.is_null();
  for (const Json& route : routes) policy.routes.push_back(ReadRoute(route));
  policy.limits = ReadLimits(json.at("limits"));
  return policy;
}

}  // namespace

std::string ToDocument(const EffectivePolicy& policy) {
  Json json;
  json["policy"] = policy.id.ToString();
  json["serviceAccounts"] = Json::array();
  for (const ServiceAccount& account : policy.service_accounts) json["serviceAccounts"].push_back(account.ToString());
  json["ports"] = Json::array();
  for (const Port& port : policy.ports) {
    json["ports"].push_back({{"number", port.number}, {"protocol", ProtocolName(port.protocol)}});
  }
  json["cidrs"] = Json::array();
  for (const Prefix& prefix : policy.cidrs) json["cidrs"].push_back(prefix.ToString());
  json["hosts"] = policy.hosts;
  json["routes"] = policy.all_routes ? Json() : Json::array();
  for (const HttpMatch& route : policy.routes) json["routes"].push_back(RouteToJson(route));
  json["limits"] = Json::object();
  for (const LimitField& field : kLimits) {
    if (policy.limits.*field.member) json["limits"][field.key] = *(policy.limits.*field.member);
  }
  return json.dump();
}

Result<EffectivePolicy> FromDocument(std::string_view document) {
  try {
    return ReadPolicy(Json::parse(document));
  } catch (const std::exception& error) {
    return Error{std::string("read a policy document: ") + error.what()};
  }
}

}  // namespace egress::policy
