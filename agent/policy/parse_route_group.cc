// HTTPRouteGroup (SMI specs v1alpha4).

#include <algorithm>
#include <array>

#include "agent/policy/parse.h"
#include "agent/policy/regex.h"
#include "agent/policy/schema.h"

namespace egress::policy {
namespace {

constexpr std::array<std::string_view, 10> kMethods = {"*",      "GET",     "HEAD",    "PUT",   "POST",
                                                       "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};

const Schema& RouteGroupSchema() {
  static constexpr Field kFields[] = {
      {"spec.matches[].name", FieldType::kString, true},
      {"spec.matches[].pathRegex", FieldType::kString},
      {"spec.matches[].methods[]", FieldType::kString},
      {"spec.matches[].headers[]", FieldType::kLabels},
  };
  static const Schema schema(kFields);
  return schema;
}

// A token of RFC 9110, 5.6.2.
bool IsToken(std::string_view name) {
  static constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

void CheckPattern(const Node& node, const std::string& path, Report* report) {
  const Result<void> checked = CheckRegex(node.text);
  if (!checked) report->Error(node.line, path, Quoted(node.text) + " " + checked.error().message);
}

// `*` beside other methods changes nothing but for CONNECT, which it does not stand for.
void ReadMethods(const Node& list, const std::string& path, HttpMatch* match, Report* report) {
  bool all = list.children.empty();
  bool connect = false;
  for (std::size_t i = 0; i < list.children.size(); ++i) {
    const Node& item = list.children[i];
    if (!item.IsString()) continue;
    if (std::find(kMethods.begin(), kMethods.end(), item.text) == kMethods.end()) {
      report->Error(item.line, ItemPath(path, i),
                    Quoted(item.text) +
                        " is unknown; write GET, HEAD, PUT, POST, DELETE, CONNECT, OPTIONS, TRACE, "
                        "PATCH (in upper case) or *");
      continue;
    }
    all |= item.text == "*";
    connect |= item.text == "CONNECT";
    match->methods.push_back(item.text);
  }
  if (!all) {
    std::sort(match->methods.begin(), match->methods.end());
    match->methods.erase(std::unique(match->methods.begin(), match->methods.end()), match->methods.end());
    return;
  }
  match->methods.clear();
  if (connect) match->methods = {"*", "CONNECT"};
}

void ReadHeaders(const Node& list, const std::string& path, HttpMatch* match, Report* report) {
  for (std::size_t i = 0; i < list.children.size(); ++i) {
    const Node& item = list.children[i];
    const std::string item_path = ItemPath(path, i);
    if (!item.IsMap()) continue;
    if (item.children.size() != 1) {
      report->Error(
          item.line, item_path,
          "has " + std::to_string(item.children.size()) + " keys; write one item for each header: name: regex");
      continue;
    }
    const Node& header = item.children[0];
    if (!IsToken(header.key)) {
      report->Error(header.line, item_path, Quoted(header.key) + " is no name of a header");
      continue;
    }
    if (!header.IsString()) continue;
    CheckPattern(header, FieldPath(item_path, header.key), report);
    std::string name = header.key;
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    match->headers.emplace_back(std::move(name), header.text);
  }
}

HttpMatch ReadMatch(const Node& item, const std::string& path, Report* report) {
  HttpMatch match;
  if (const Node* name = item.Find("name")) match.name = name->text;
  if (const Node* regex = item.Find("pathRegex"); regex != nullptr && regex->IsString()) {
    CheckPattern(*regex, path + ".pathRegex", report);
    match.path_regex = regex->text;
  }
  if (const Node* methods = item.Find("methods"); methods != nullptr && methods->IsList()) {
    ReadMethods(*methods, path + ".methods", &match, report);
  }
  if (const Node* headers = item.Find("headers"); headers != nullptr && headers->IsList()) {
    ReadHeaders(*headers, path + ".headers", &match, report);
  }
  return match;
}

}  // namespace

void ParseRouteGroup(const Node& root, HttpRouteGroup* group, Report* report) {
  RouteGroupSchema().Check(root, report);
  const Node* spec = root.Find("spec");
  if (spec == nullptr) report->Error(root.line, "spec", "is missing; it is required");
  const Node* matches = root.FindPath("spec.matches");
  if (matches == nullptr || !matches->IsList()) return;
  for (std::size_t i = 0; i < matches->children.size(); ++i) {
    const Node& item = matches->children[i];
    if (item.IsMap()) group->matches.push_back(ReadMatch(item, ItemPath("spec.matches", i), report));
  }
}

}  // namespace egress::policy
