#include "agent/policy/parse.h"

#include <algorithm>
#include <array>
#include <set>

#include "agent/policy/host.h"

namespace egress::policy {
namespace {

struct KnownKind {
  Kind kind;
  std::string_view name;
  std::array<std::string_view, 2> versions;
};

constexpr std::array<KnownKind, 6> kKinds = {{
    {Kind::kEgress, "Egress", {"policy.openservicemesh.io/v1alpha1", ""}},
    {Kind::kUpstreamTrafficSetting, "UpstreamTrafficSetting", {"policy.openservicemesh.io/v1alpha1", ""}},
    {Kind::kHttpRouteGroup, "HTTPRouteGroup", {"specs.smi-spec.io/v1alpha4", ""}},
    {Kind::kMeshConfig, "MeshConfig", {"config.openservicemesh.io/v1alpha2", "config.openservicemesh.io/v1alpha1"}},
    {Kind::kNamespace, "Namespace", {"v1", ""}},
    {Kind::kPod, "Pod", {"v1", ""}},
}};

// "" where it is missing or no string.
std::string StringAt(const Node& root, std::string_view path) {
  const Node* node = root.FindPath(path);
  return node != nullptr && node->IsString() ? node->text : std::string();
}

class Parser {
 public:
  Parser(const std::string& file, const Settings& settings) : file_(file), settings_(settings) {}

  void ParseDocument(const Document& document) {
    const Node& root = document.root;
    if (!root.IsMap()) return Unidentified(root, "", "", "is no object; a manifest is a map with apiVersion and kind");
    const std::string kind = StringAt(root, "kind");
    if (kind.empty()) return Unidentified(root, "", "kind", "is missing or no string; it is required");
    if (kind == "List" && StringAt(root, "apiVersion") == "v1") return ParseList(document);
    ParseObject(root, kind, document.duplicates);
  }

  Parsed Take() { return std::move(parsed_); }

 private:
  void ParseList(const Document& document) {
    const Node* items = document.root.Find("items");
    if (items == nullptr || !items->IsList()) {
      return Unidentified(document.root, "List", "items", "is missing or no list; it is required");
    }
    for (const Node& item : items->children) {
      const std::string kind = StringAt(item, "kind");
      if (kind.empty()) {
        Unidentified(item, "", "kind", "is missing or no string; it is required");
        continue;
      }
      ParseObject(item, kind, document.duplicates);
    }
  }

  void ParseObject(const Node& root, const std::string& kind, const std::vector<TextProblem>& duplicates) {
    const std::string version = StringAt(root, "apiVersion");
    const auto known =
        std::find_if(kKinds.begin(), kKinds.end(), [&](const KnownKind& candidate) { return candidate.name == kind; });
    ObjectId id{StringAt(root, "metadata.namespace"), StringAt(root, "metadata.name")};
    if (known == kKinds.end()) return Ignored(root, kind, version, id);
    if (id.name.empty()) return Unidentified(root, kind, "metadata.name", "is missing or no string; it is required");
    const Node* ns = root.FindPath("metadata.namespace");
    if (ns != nullptr && !ns->IsString()) return Unidentified(*ns, kind, "metadata.namespace", "must be a string");
    if (known->kind == Kind::kNamespace) {
      id.ns.clear();
    } else if (id.ns.empty()) {
      id.ns = "default";  // as kubectl apply does
    }
    Report report(file_, kind, id);
    CheckNames(root, id, known->kind, &report);
    for (const TextProblem& duplicate : duplicates) report.Error(duplicate.line, duplicate.path, duplicate.message);
    auto object = std::make_shared<Object>();
    object->key = {known->kind, id};
    object->location = {file_, root.line};
    if (std::find(known->versions.begin(), known->versions.end(), version) == known->versions.end()) {
      const Node* field = root.Find("apiVersion");
      report.Error(field == nullptr ? root.line : field->line, "apiVersion",
                   "must be " + std::string(known->versions[0]) + ", is " + Quoted(version));
    }
    if (!report.has_errors() || known->kind == Kind::kPod) ParseModel(root, &report, object.get());
    object->valid = !report.has_errors();
    if (!object->valid && known->kind != Kind::kPod) object->model = std::monostate();
    object->findings = report.Take();
    parsed_.objects.push_back(std::move(object));
  }

  static void CheckNames(const Node& root, const ObjectId& id, Kind kind, Report* report) {
    const bool valid = kind == Kind::kNamespace ? IsNamespaceName(id.name) : IsObjectName(id.name);
    if (!valid) {
      report->Error(root.FindPath("metadata.name")->line, "metadata.name",
                    Quoted(id.name) + " is no name that Kubernetes allows; use a-z, 0-9, hyphens and dots");
    }
    if (kind != Kind::kNamespace && !IsNamespaceName(id.ns)) {
      report->Error(root.FindPath("metadata.namespace")->line, "metadata.namespace",
                    Quoted(id.ns) + " is no name that Kubernetes allows; use a-z, 0-9 and hyphens");
    }
  }

  template <typename T>
  static T* Model(Object* object) {
    return &object->model.emplace<T>();
  }

  static PodPtr MakePod(const Node& root, Report* report) {
    auto pod = std::make_shared<Pod>();
    ParsePod(root, pod.get(), report);
    return pod;
  }

  void ParseModel(const Node& root, Report* report, Object* object) {
    switch (object->key.kind) {
      case Kind::kEgress: return ParseEgress(root, settings_, Model<Egress>(object), report);
      case Kind::kHttpRouteGroup: return ParseRouteGroup(root, Model<HttpRouteGroup>(object), report);
      case Kind::kUpstreamTrafficSetting:
        return ParseTrafficSetting(root, Model<UpstreamTrafficSetting>(object), report);
      case Kind::kMeshConfig: return ParseMeshConfig(root, settings_, Model<MeshConfig>(object), report);
      case Kind::kNamespace: return ParseNamespace(root, Model<Namespace>(object), report);
      case Kind::kPod: object->model = MakePod(root, report); return;
    }
  }

  void Unidentified(const Node& node, const std::string& kind, const std::string& field, const std::string& message) {
    Report report(file_, kind, {});
    report.Error(node.line, field, message);
    Append(report.Take());
    parsed_.unidentified = true;
  }

  void Ignored(const Node& root, const std::string& kind, const std::string& version, const ObjectId& id) {
    Report report(file_, kind, id);
    const Node* field = root.Find("kind");
    if (kind == "EgressGateway" && version.starts_with("policy.openservicemesh.io/")) {
      report.Warning(field->line, "kind",
                     "is not supported and ignored: egress leaves from the pod's own node, through no gateway");
    } else {
      report.Warning(field->line, "kind", "is none of the kinds that egress policy is made of; it is ignored");
    }
    Append(report.Take());
    // A manifest that was cut off in the middle of its kind looks like this, too.
    if (id.name.empty()) parsed_.unidentified = true;
  }

  void Append(std::vector<Finding> findings) {
    for (Finding& finding : findings) parsed_.findings.push_back(std::move(finding));
  }

  const std::string& file_;
  const Settings& settings_;
  Parsed parsed_;
};

}  // namespace

Parsed Parse(const std::string& file, std::string_view text, const Settings& settings) {
  const Documents documents = ReadDocuments(text);
  if (documents.failure) {
    Parsed parsed;
    parsed.broken = true;
    const TextProblem& problem = *documents.failure;
    parsed.findings.push_back({Severity::kError, {file, problem.line}, "", {}, problem.path, problem.message});
    return parsed;
  }
  Parser parser(file, settings);
  for (const Document& document : documents.documents) parser.ParseDocument(document);
  return parser.Take();
}

std::vector<Prefix> ParsePrefixes(const Node& list, const std::string& path, Report* report,
                                  std::vector<Place>* places) {
  std::vector<Prefix> prefixes;
  std::set<Prefix> seen;
  for (std::size_t i = 0; i < list.children.size(); ++i) {
    const Node& item = list.children[i];
    if (!item.IsString()) continue;  // reported by the schema
    std::string masked;
    const auto prefix = ParsePrefix(item.text, &masked);
    if (!prefix && !masked.empty()) {
      report->Error(item.line, ItemPath(path, i), Quoted(item.text) + " has host bits set; write " + masked);
    } else if (!prefix) {
      const auto address = ParseAddress(item.text);
      const std::string length = address && address->IsV4() ? "/32" : "/128";
      report->Error(item.line, ItemPath(path, i),
                    Quoted(item.text) + " is not a CIDR; write " +
                        (address ? address->ToString() + length : "ADDRESS/LENGTH, such as 198.51.100.0/24"));
    } else if (!seen.insert(*prefix).second) {
      report->Warning(item.line, ItemPath(path, i), "stands in the list before: " + prefix->ToString());
    } else {
      prefixes.push_back(*prefix);
      if (places != nullptr) places->push_back({static_cast<int>(i), item.line});
    }
  }
  return prefixes;
}

}  // namespace egress::policy
