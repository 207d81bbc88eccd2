// Schema: which fields a kind has, and of which type; checks a tree against it before anybody reads values from it.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/policy/report.h"
#include "agent/policy/tree.h"

namespace egress::policy {

// kMap and kAny are not looked into; kLabels is a map of strings.
enum class FieldType { kAny, kBool, kInteger, kNumber, kString, kLabels, kMap };

// One row of a table of fields. `path` leads from the root: "spec.ports[].number"; "[]" makes the field a list, at
// the end a list of `type`.
struct Field {
  const char* path;
  FieldType type;
  bool required = false;  // where its parent stands
  std::int64_t least = std::numeric_limits<std::int64_t>::min();
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
};

class Schema {
 public:
  // Common to all kinds: apiVersion, kind, metadata, status.
  enum class Head { kNone, kObject };
  // Of other people's kinds (kLenient) unknown fields are nobody's business, and null is as good as missing.
  enum class Mode { kStrict, kLenient };
  explicit Schema(std::span<const Field> fields, Head head = Head::kObject, Mode mode = Mode::kStrict);

  // Reports unknown fields, wrong types, missing required fields and integers out of range.
  void Check(const Node& root, Report* report) const;

 private:
  struct Element {
    FieldType type = FieldType::kAny;
    bool list = false;
    bool structure = false;  // a map with `fields`, or, with `list`, a list of such
    bool required = false;
    std::int64_t least = 0;
    std::int64_t most = 0;
    std::map<std::string, Element, std::less<>> fields;
  };

  void Add(const Field& field);
  void CheckElement(const Node& node, const Element& element, const std::string& path, Report* report) const;
  void CheckFields(const Node& node, const Element& element, const std::string& path, Report* report) const;
  void CheckValue(const Node& node, const Element& element, const std::string& path, Report* report) const;

  Element root_;
  bool lenient_;
};

// The value of a kInteger; nullopt where it does not fit.
std::optional<std::int64_t> IntegerOf(const Node& node);

}  // namespace egress::policy
