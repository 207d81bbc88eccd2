#include "agent/policy/settings.h"

#include <algorithm>

#include "agent/policy/parse.h"
#include "agent/policy/schema.h"

namespace egress::policy {
namespace {

const Schema& ConfigSchema() {
  static constexpr Field kFields[] = {
      {"meshName", FieldType::kString},
      {"controlPlaneNamespace", FieldType::kString},
      {"meshCIDRs[]", FieldType::kString},
      {"dnsServers[]", FieldType::kString},
      {"otherProtocols", FieldType::kString},
      {"enforcement", FieldType::kString},
      {"revokeConnections", FieldType::kBool},
      {"allowCrossNamespaceSources", FieldType::kBool},
      {"cni", FieldType::kAny},
      {"systemNamespaces[]", FieldType::kString},
      {"cniConfDir", FieldType::kString},
      {"cniBinDir", FieldType::kString},
      {"hostBinding", FieldType::kAny},
  };
  static const Schema schema(kFields, Schema::Head::kNone);
  return schema;
}

class Reader {
 public:
  Reader(const Node& root, Report* report) : root_(root), report_(*report) {}

  Config Read() {
    ConfigSchema().Check(root_, &report_);
    Config config;
    Settings& settings = config.settings;
    Text("meshName", &settings.mesh_name);
    Text("controlPlaneNamespace", &settings.control_plane_namespace);
    if (const Node* list = List("meshCIDRs")) settings.mesh_cidrs = ParsePrefixes(*list, "meshCIDRs", &report_);
    Servers(&settings.dns_servers);
    Namespaces(&settings.system_namespaces);
    settings.other_protocols_allowed = Choice("otherProtocols", "deny", {"deny", "allow"}) == "allow";
    config.enforcement = Choice("enforcement", "enforce", {"enforce", "audit"});
    settings.audit = config.enforcement == "audit";
    Bool("revokeConnections", &config.revoke_connections);
    Bool("allowCrossNamespaceSources", &settings.allow_cross_namespace_sources);
    config.cni = Choice("cni", "chained", {"chained", "off"});
    Text("cniConfDir", &config.cni_conf_dir);
    Text("cniBinDir", &config.cni_bin_dir);
    config.host_binding = Choice("hostBinding", "off", {"off", "strict"});
    if (config.host_binding == "strict") {
      report_.Error(root_.Find("hostBinding")->line, "hostBinding", "strict is not built yet; write off");
    }
    return config;
  }

 private:
  const Node* List(std::string_view name) const {
    const Node* node = root_.Find(name);
    return node != nullptr && node->IsList() ? node : nullptr;
  }

  void Text(const std::string& name, std::string* value) {
    const Node* node = root_.Find(name);
    if (node == nullptr || !node->IsString()) return;
    if (node->text.empty()) report_.Error(node->line, name, "is empty; give it a value or leave it out");
    *value = node->text;
  }

  void Bool(std::string_view name, bool* value) {
    const Node* node = root_.Find(name);
    if (node == nullptr || node->type != Node::Type::kBool) return;
    *value = node->text == "true" || node->text == "True" || node->text == "TRUE";
  }

  // One of two words. Programs that write YAML 1.1 turn a bare `off` into false, so where `off` is a choice, false is
  // taken for it.
  std::string Choice(const std::string& name, const char* missing, const std::array<std::string_view, 2>& choices) {
    const Node* node = root_.Find(name);
    if (node == nullptr) return missing;
    const bool off = node->type == Node::Type::kBool && (node->text == "false" || node->text == "False");
    if (off && std::find(choices.begin(), choices.end(), "off") != choices.end()) return "off";
    if (node->IsString() && std::find(choices.begin(), choices.end(), node->text) != choices.end()) return node->text;
    // Another type than a string has been reported by the schema, but for a field of two types.
    if (node->IsString() || std::find(choices.begin(), choices.end(), "off") != choices.end()) {
      report_.Error(node->line, name,
                    "must be " + std::string(choices[0]) + " or " + std::string(choices[1]) + ", is " +
                        (node->text.empty() ? TypeName(node->type) : Quoted(node->text)));
    }
    return missing;
  }

  void Servers(std::vector<Address>* servers) {
    const Node* list = List("dnsServers");
    if (list == nullptr) return;
    for (std::size_t i = 0; i < list->children.size(); ++i) {
      const Node& item = list->children[i];
      if (!item.IsString()) continue;
      if (const auto address = ParseAddress(item.text)) {
        servers->push_back(*address);
      } else {
        report_.Error(item.line, ItemPath("dnsServers", i),
                      Quoted(item.text) + " is no IP address; write one such as 198.51.100.53");
      }
    }
  }

  void Namespaces(std::vector<std::string>* namespaces) {
    const Node* list = List("systemNamespaces");
    if (list == nullptr) return;
    namespaces->clear();
    for (const Node& item : list->children) {
      if (item.IsString()) namespaces->push_back(item.text);
    }
  }

  const Node& root_;
  Report& report_;
};

Result<Config> Finish(Config config, std::vector<Finding> found, std::vector<Finding>* findings) {
  const auto is_error = [](const Finding& finding) { return finding.severity == Severity::kError; };
  const auto errors = std::count_if(found.begin(), found.end(), is_error);
  findings->insert(findings->end(), found.begin(), found.end());
  if (errors == 0) return config;
  const std::string first = std::find_if(found.begin(), found.end(), is_error)->ToString();
  return Error{std::to_string(errors) + (errors == 1 ? " error" : " errors") + " in the configuration: " + first};
}

}  // namespace

Result<Config> ParseConfig(std::string_view file_name, std::string_view text, std::vector<Finding>* findings) {
  Report report{std::string(file_name), "", {}};
  const Documents documents = ReadDocuments(text);
  if (documents.failure) {
    report.Error(documents.failure->line, documents.failure->path, documents.failure->message);
    return Finish({}, report.Take(), findings);
  }
  if (documents.documents.empty()) return Config();
  const Document& document = documents.documents.front();
  for (const TextProblem& duplicate : document.duplicates) {
    report.Error(duplicate.line, duplicate.path, duplicate.message);
  }
  if (documents.documents.size() > 1) {
    report.Error(documents.documents[1].root.line, "", "a configuration is one document; remove the others");
  }
  if (!document.root.IsMap()) {
    report.Error(document.root.line, "", "is no configuration; write keys and values, such as meshName: osm");
    return Finish({}, report.Take(), findings);
  }
  Config config = Reader(document.root, &report).Read();
  return Finish(std::move(config), report.Take(), findings);
}

}  // namespace egress::policy
