#include "agent/policy/schema.h"

#include <charconv>

namespace egress::policy {
namespace {

constexpr Field kHead[] = {
    {"apiVersion", FieldType::kString, true},
    {"kind", FieldType::kString, true},
    {"status", FieldType::kAny},
    {"metadata.name", FieldType::kString, true},
    {"metadata.namespace", FieldType::kString},
    {"metadata.labels", FieldType::kLabels},
    {"metadata.annotations", FieldType::kLabels},
    {"metadata.clusterName", FieldType::kAny},
    {"metadata.creationTimestamp", FieldType::kAny},
    {"metadata.deletionGracePeriodSeconds", FieldType::kAny},
    {"metadata.deletionTimestamp", FieldType::kAny},
    {"metadata.finalizers", FieldType::kAny},
    {"metadata.generateName", FieldType::kAny},
    {"metadata.generation", FieldType::kAny},
    {"metadata.managedFields", FieldType::kAny},
    {"metadata.ownerReferences", FieldType::kAny},
    {"metadata.resourceVersion", FieldType::kAny},
    {"metadata.selfLink", FieldType::kAny},
    {"metadata.uid", FieldType::kAny},
};

// "a", "a, b", "a, b, c" of the names of fields.
template <typename Fields>
std::string Names(const Fields& fields) {
  std::string names;
  for (const auto& [name, element] : fields) names += (names.empty() ? "" : ", ") + name;
  return names;
}

const char* ExpectedName(FieldType type) {
  switch (type) {
    case FieldType::kAny: return "a value";
    case FieldType::kBool: return "true or false";
    case FieldType::kInteger: return "an integer";
    case FieldType::kNumber: return "a number";
    case FieldType::kString: return "a string";
    case FieldType::kLabels: return "a map of strings";
    case FieldType::kMap: return "a map";
  }
  return "";
}

bool HasType(const Node& node, FieldType type) {
  switch (type) {
    case FieldType::kAny: return true;
    case FieldType::kBool: return node.type == Node::Type::kBool;
    case FieldType::kInteger: return node.type == Node::Type::kInteger;
    case FieldType::kNumber: return node.type == Node::Type::kInteger || node.type == Node::Type::kNumber;
    case FieldType::kString: return node.type == Node::Type::kString;
    case FieldType::kLabels:
    case FieldType::kMap: return node.type == Node::Type::kMap;
  }
  return false;
}

std::string WrongType(const Node& node, FieldType expected) {
  std::string message = std::string("must be ") + ExpectedName(expected) + ", is ";
  if (node.IsNull()) return message + "empty; give it a value or leave the field out";
  message += TypeName(node.type);
  if (!node.text.empty()) message += " (" + Quoted(node.text) + ")";
  switch (expected) {
    case FieldType::kString: return message + (node.children.empty() ? "; put it in quotes" : "");
    case FieldType::kInteger: return message + "; write it in decimal digits, without quotes";
    case FieldType::kBool: return message + "; write true or false, without quotes";
    default: return message;
  }
}

}  // namespace

std::optional<std::int64_t> IntegerOf(const Node& node) {
  std::string_view text = node.text;
  if (text.starts_with('+')) text.remove_prefix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Schema::Schema(std::span<const Field> fields, Head head, Mode mode) : lenient_(mode == Mode::kLenient) {
  root_.structure = true;
  if (head == Head::kObject) {
    for (const Field& field : kHead) Add(field);
    root_.fields["metadata"].required = true;
  }
  for (const Field& field : fields) Add(field);
}

void Schema::Add(const Field& field) {
  Element* element = &root_;
  std::string_view path = field.path;
  while (!path.empty()) {
    const std::size_t dot = path.find('.');
    std::string_view name = path.substr(0, dot);
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
    const bool list = name.ends_with("[]");
    if (list) name.remove_suffix(2);
    element = &element->fields[std::string(name)];
    element->list |= list;
    if (!path.empty()) element->structure = true;
  }
  element->type = field.type;
  element->required = field.required;
  element->least = field.least;
  element->most = field.most;
}

void Schema::Check(const Node& root, Report* report) const { CheckFields(root, root_, "", report); }

void Schema::CheckFields(const Node& node, const Element& element, const std::string& path, Report* report) const {
  for (const Node& child : node.children) {
    const auto found = element.fields.find(child.key);
    if (found != element.fields.end()) {
      CheckElement(child, found->second, FieldPath(path, child.key), report);
    } else if (!lenient_) {
      report->Error(child.line, FieldPath(path, child.key),
                    "is an unknown field; the fields here are: " + Names(element.fields));
    }
  }
  for (const auto& [name, field] : element.fields) {
    if (field.required && node.Find(name) == nullptr) {
      report->Error(node.line, FieldPath(path, name), "is missing; it is required");
    }
  }
}

void Schema::CheckElement(const Node& node, const Element& element, const std::string& path, Report* report) const {
  if (node.IsNull() && (lenient_ || element.type == FieldType::kLabels)) return;
  if (!element.list) {
    CheckValue(node, element, path, report);
    return;
  }
  if (!node.IsList()) {
    report->Error(node.line, path,
                  std::string("must be a list, is ") +
                      (node.IsNull() ? "empty; give it items, [] or leave the field out" : TypeName(node.type)));
    return;
  }
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    CheckValue(node.children[i], element, ItemPath(path, i), report);
  }
}

void Schema::CheckValue(const Node& node, const Element& element, const std::string& path, Report* report) const {
  if (element.structure) {
    if (!node.IsMap()) {
      report->Error(node.line, path, WrongType(node, FieldType::kMap));
    } else {
      CheckFields(node, element, path, report);
    }
    return;
  }
  if (!HasType(node, element.type)) {
    report->Error(node.line, path, WrongType(node, element.type));
    return;
  }
  if (element.type == FieldType::kLabels) {
    for (const Node& label : node.children) {
      if (!label.IsString()) {
        report->Error(label.line, FieldPath(path, label.key), WrongType(label, FieldType::kString));
      }
    }
  }
  if (element.type != FieldType::kInteger) return;
  const auto value = IntegerOf(node);
  if (value && *value >= element.least && *value <= element.most) return;
  report->Error(node.line, path,
                "must be " +
                    (element.most == std::numeric_limits<std::int64_t>::max()
                         ? "at least " + std::to_string(element.least)
                         : "in " + std::to_string(element.least) + ".." + std::to_string(element.most)) +
                    ", is " + node.text);
}

}  // namespace egress::policy
