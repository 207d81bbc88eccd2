// Egress: what one object says wrong by itself.

#include <algorithm>
#include <set>

#include "agent/policy/host.h"
#include "agent/policy/parse.h"
#include "agent/policy/schema.h"

namespace egress::policy {
namespace {

constexpr std::string_view kRouteGroupApi = "specs.smi-spec.io/v1alpha4";
constexpr std::string_view kPolicyApi = "policy.openservicemesh.io/v1alpha1";

const Schema& EgressSchema() {
  static constexpr Field kFields[] = {
      {"spec.sources[].kind", FieldType::kString, true},
      {"spec.sources[].name", FieldType::kString, true},
      {"spec.sources[].namespace", FieldType::kString, true},
      {"spec.sources[].mtls", FieldType::kAny},
      {"spec.hosts[]", FieldType::kString},
      {"spec.ipAddresses[]", FieldType::kString},
      {"spec.ports[].number", FieldType::kInteger, true, 1, 65535},
      {"spec.ports[].protocol", FieldType::kString, true},
      {"spec.matches[].apiGroup", FieldType::kString, true},
      {"spec.matches[].kind", FieldType::kString, true},
      {"spec.matches[].name", FieldType::kString, true},
  };
  static const Schema schema(kFields);
  return schema;
}

// "" where it is missing or no string; the schema has reported that.
std::string TextOf(const Node& item, std::string_view field) {
  const Node* node = item.Find(field);
  return node != nullptr && node->IsString() ? node->text : std::string();
}

int LineOf(const Node& item, std::string_view field) {
  const Node* node = item.Find(field);
  return node == nullptr ? item.line : node->line;
}

class Reader {
 public:
  Reader(const Settings& settings, Egress* egress, Report* report)
      : settings_(settings), egress_(*egress), report_(*report) {}

  void Read(const Node& spec) {
    if (const Node* sources = List(spec, "sources", true)) ReadSources(*sources);
    if (const Node* hosts = List(spec, "hosts", false)) ReadHosts(*hosts);
    if (const Node* cidrs = List(spec, "ipAddresses", false)) ReadPrefixes(*cidrs);
    if (const Node* ports = List(spec, "ports", true)) ReadPorts(*ports);
    if (const Node* matches = List(spec, "matches", false)) ReadMatches(*matches);
    CheckHosts(spec);
    CheckPorts();
  }

 private:
  // The list, where it is one. An empty one that is required grants nothing, so nobody means it.
  const Node* List(const Node& spec, const std::string& name, bool required) {
    const Node* list = spec.Find(name);
    if (list == nullptr) {
      if (required) report_.Error(spec.line, "spec." + name, "is missing; it is required");
      return nullptr;
    }
    if (!list->IsList()) return nullptr;
    if (required && list->children.empty()) report_.Error(list->line, "spec." + name, "is empty; give it an item");
    return list;
  }

  void ReadSources(const Node& list) {
    std::set<ServiceAccount> seen;
    for (std::size_t i = 0; i < list.children.size(); ++i) {
      const Node& item = list.children[i];
      const std::string path = ItemPath("spec.sources", i);
      if (const Node* mtls = item.Find("mtls")) {
        report_.Error(mtls->line, path + ".mtls",
                      "is not supported: traffic would leave in plaintext where mTLS was asked for; remove it");
      }
      const Node* kind = item.Find("kind");
      if (kind != nullptr && kind->IsString() && kind->text != "ServiceAccount") {
        report_.Error(kind->line, path + ".kind", "must be ServiceAccount, is " + Quoted(kind->text));
      }
      ServiceAccount account{TextOf(item, "namespace"), TextOf(item, "name")};
      CheckSource(item, path, account);
      if (!seen.insert(account).second) {
        report_.Warning(item.line, path, "stands in the list before: " + account.ToString());
        continue;
      }
      egress_.sources.push_back({account, {static_cast<int>(i), item.line}});
    }
  }

  void CheckSource(const Node& item, const std::string& path, const ServiceAccount& account) {
    for (const auto& [field, is_name] : {std::pair("name", &IsObjectName), std::pair("namespace", &IsNamespaceName)}) {
      const Node* node = item.Find(field);
      if (node == nullptr || !node->IsString() || is_name(node->text)) continue;
      report_.Error(node->line, path + "." + field,
                    Quoted(node->text) + " is no name that Kubernetes allows; name a ServiceAccount and its namespace");
    }
    const std::string& own = report_.object().ns;
    if (!account.ns.empty() && account.ns != own && !settings_.allow_cross_namespace_sources) {
      report_.Error(LineOf(item, "namespace"), path + ".namespace",
                    "is " + Quoted(account.ns) + ", another namespace than the Egress's own, " + own +
                        "; move the Egress there, or set allowCrossNamespaceSources: true in the configuration");
    }
  }

  void ReadHosts(const Node& list) {
    std::set<std::string> seen;
    for (std::size_t i = 0; i < list.children.size(); ++i) {
      const Node& item = list.children[i];
      if (!item.IsString()) continue;
      const std::string path = ItemPath("spec.hosts", i);
      Result<std::string> host = NormalizeHost(item.text);
      if (!host) {
        report_.Error(item.line, path, host.error().message);
      } else if (!seen.insert(*host).second) {
        report_.Warning(item.line, path, "stands in the list before: " + *host);
      } else {
        WarnOfMeshHost(*host, item.line, path);
        egress_.hosts.push_back(*host);
        host_places_.push_back({static_cast<int>(i), item.line});
      }
    }
  }

  void WarnOfMeshHost(const std::string& host, int line, const std::string& path) {
    bool mesh = host.ends_with(".svc") || host.ends_with(".svc.cluster.local");
    if (const auto address = ParseAddress(host)) {
      mesh = std::any_of(settings_.mesh_cidrs.begin(), settings_.mesh_cidrs.end(),
                         [&](const Prefix& prefix) { return prefix.Contains(*address); });
    }
    if (mesh) report_.Warning(line, path, host + " is inside the mesh, where egress policy does not apply; remove it");
  }

  void ReadPrefixes(const Node& list) {
    std::vector<Place> places;
    egress_.cidrs = ParsePrefixes(list, "spec.ipAddresses", &report_, &places);
    for (std::size_t i = 0; i < egress_.cidrs.size(); ++i) {
      for (const Prefix& mesh : settings_.mesh_cidrs) {
        if (!mesh.Contains(egress_.cidrs[i])) continue;
        report_.Warning(places[i].line, ItemPath("spec.ipAddresses", places[i].index),
                        egress_.cidrs[i].ToString() + " is inside meshCIDRs (" + mesh.ToString() +
                            "), where egress policy does not apply; remove it");
        break;
      }
    }
  }

  void ReadPorts(const Node& list) {
    std::set<Port> seen;
    for (std::size_t i = 0; i < list.children.size(); ++i) {
      const Node& item = list.children[i];
      const std::string path = ItemPath("spec.ports", i);
      const Node* number = item.Find("number");
      const Node* protocol = item.Find("protocol");
      std::optional<Protocol> known;
      if (protocol != nullptr && protocol->IsString()) {
        known = ParseProtocol(protocol->text);
        if (!known) {
          report_.Error(protocol->line, path + ".protocol",
                        Quoted(protocol->text) + " is unknown; write http, https, tcp or tcp-server-first");
        }
      }
      const auto value = number != nullptr && number->type == Node::Type::kInteger ? IntegerOf(*number) : std::nullopt;
      if (!known || !value || *value < 1 || *value > 65535) continue;
      const Port port{static_cast<std::uint16_t>(*value), *known};
      if (!seen.insert(port).second) {
        report_.Warning(
            item.line, path,
            "stands in the list before: " + std::to_string(port.number) + " " + ProtocolName(port.protocol));
        continue;
      }
      egress_.ports.push_back({port, {static_cast<int>(i), item.line}});
    }
  }

  static std::optional<Protocol> ParseProtocol(std::string_view text) {
    std::string lower(text);
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    for (const Protocol protocol : {Protocol::kHttp, Protocol::kHttps, Protocol::kTcp, Protocol::kTcpServerFirst}) {
      if (lower == ProtocolName(protocol)) return protocol;
    }
    return std::nullopt;
  }

  // The messages are upstream's own.
  void ReadMatches(const Node& list) {
    for (std::size_t i = 0; i < list.children.size(); ++i) {
      const Node& item = list.children[i];
      const std::string path = ItemPath("spec.matches", i);
      const std::string group = TextOf(item, "apiGroup");
      const std::string kind = TextOf(item, "kind");
      const std::string name = TextOf(item, "name");
      if (group.empty() || kind.empty() || name.empty()) {
        CheckEmpty(item, path);
        continue;
      }
      const Place place{static_cast<int>(i), item.line};
      if (group == kRouteGroupApi) {
        if (kind != "HTTPRouteGroup") {
          report_.Error(LineOf(item, "kind"), path + ".kind",
                        "Expected 'matches.kind' for match '" + name + "' to be 'HTTPRouteGroup', got: " + kind);
        }
        egress_.route_groups.push_back({name, place});
      } else if (group == kPolicyApi) {
        if (kind != "UpstreamTrafficSetting") {
          report_.Error(
              LineOf(item, "kind"), path + ".kind",
              "Expected 'matches.kind' for match '" + name + "' to be 'UpstreamTrafficSetting', got: " + kind);
        }
        if (egress_.traffic_setting) {
          report_.Error(item.line, "spec.matches", "Cannot have more than 1 UpstreamTrafficSetting match");
        }
        egress_.traffic_setting = {name, place};
      } else {
        report_.Error(LineOf(item, "apiGroup"), path + ".apiGroup",
                      "Expected 'matches.apiGroup' to be one of [" + std::string(kRouteGroupApi) + " " +
                          std::string(kPolicyApi) + "], got: " + group);
      }
    }
  }

  void CheckEmpty(const Node& item, const std::string& path) {
    for (const char* field : {"apiGroup", "kind", "name"}) {
      const Node* node = item.Find(field);
      if (node != nullptr && node->IsString() && node->text.empty()) {
        report_.Error(node->line, path + "." + field, "is empty; give it a value");
      }
    }
  }

  bool Has(Protocol protocol) const {
    return std::any_of(egress_.ports.begin(), egress_.ports.end(),
                       [&](const auto& port) { return port.value.protocol == protocol; });
  }

  void CheckHosts(const Node& spec) {
    const Node* hosts = spec.Find("hosts");
    const int line = hosts == nullptr ? spec.line : hosts->line;
    const bool listed = hosts != nullptr && !hosts->children.empty();
    for (const Protocol protocol : {Protocol::kHttp, Protocol::kHttps}) {
      if (listed || !Has(protocol)) continue;
      report_.Error(line, "spec.hosts",
                    std::string("a port with protocol ") + ProtocolName(protocol) +
                        " needs hosts; list the hosts that may be reached, or use protocol tcp");
    }
    for (const Protocol protocol : {Protocol::kTcp, Protocol::kTcpServerFirst}) {
      if (!listed || !Has(protocol)) continue;
      report_.Warning(line, "spec.hosts",
                      std::string("are not used by a port with protocol ") + ProtocolName(protocol) +
                          ", which allows every host; restrict it by spec.ipAddresses, or use http or https");
    }
    if (!Has(Protocol::kHttps)) return;
    for (std::size_t i = 0; i < egress_.hosts.size(); ++i) {
      if (!IsAddressLiteral(egress_.hosts[i])) continue;
      report_.Warning(host_places_[i].line, ItemPath("spec.hosts", host_places_[i].index),
                      egress_.hosts[i] +
                          " is an IP literal: clients send no SNI then, so https to it is refused; use "
                          "protocol tcp with spec.ipAddresses");
    }
  }

  void CheckPorts() {
    const auto find = [&](std::uint16_t number, std::initializer_list<Protocol> protocols) -> const Port* {
      for (const auto& [port, place] : egress_.ports) {
        if (port.number == number && std::find(protocols.begin(), protocols.end(), port.protocol) != protocols.end()) {
          return &port;
        }
      }
      return nullptr;
    };
    std::set<std::uint16_t> raw;
    std::set<std::uint16_t> plain;
    for (const auto& [port, place] : egress_.ports) {
      if (port.protocol == Protocol::kTcp || port.protocol == Protocol::kTcpServerFirst) raw.insert(port.number);
      if (port.protocol == Protocol::kHttp) plain.insert(port.number);
    }
    for (const auto& [port, place] : egress_.ports) {
      if (port.protocol != Protocol::kHttp && port.protocol != Protocol::kHttps) continue;
      const std::string path = ItemPath("spec.ports", place.index) + ".protocol";
      if (raw.contains(port.number)) {
        const Port* shadow = find(port.number, {Protocol::kTcp, Protocol::kTcpServerFirst});
        report_.Warning(place.line, path,
                        std::string("the ") + ProtocolName(port.protocol) + " rule is shadowed by the " +
                            ProtocolName(shadow->protocol) + " rule on port " + std::to_string(port.number) +
                            ", which allows any bytes there; remove one of them");
      } else if (port.protocol == Protocol::kHttps && plain.contains(port.number)) {
        report_.Warning(place.line, path,
                        "http and https on one port, " + std::to_string(port.number) +
                            ": all its connections take the detour through the proxy; use two ports where you can");
      }
    }
  }

  const Settings& settings_;
  Egress& egress_;
  Report& report_;
  std::vector<Place> host_places_;
};

}  // namespace

void ParseEgress(const Node& root, const Settings& settings, Egress* egress, Report* report) {
  EgressSchema().Check(root, report);
  const Node* ns = root.FindPath("metadata.namespace");
  egress->namespace_line = ns == nullptr ? root.line : ns->line;
  const Node* spec = root.Find("spec");
  if (spec == nullptr) {
    report->Error(root.line, "spec", "is missing; it is required");
  } else if (spec->IsMap()) {
    Reader(settings, egress, report).Read(*spec);
  }
}

}  // namespace egress::policy
