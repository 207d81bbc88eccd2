// Report: collects the findings about one object.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/policy/model.h"

namespace egress::policy {

class Report {
 public:
  Report(std::string file, std::string kind, ObjectId object)
      : file_(std::move(file)), kind_(std::move(kind)), object_(std::move(object)) {}

  void Error(int line, std::string field, std::string message);
  void Warning(int line, std::string field, std::string message);

  bool has_errors() const { return errors_ > 0; }
  const std::string& file() const { return file_; }
  const std::string& kind() const { return kind_; }
  const ObjectId& object() const { return object_; }
  std::vector<Finding> Take() { return std::move(findings_); }

 private:
  std::string file_;
  std::string kind_;
  ObjectId object_;
  std::vector<Finding> findings_;
  int errors_ = 0;
};

// "spec.ports" + "number" -> "spec.ports.number"; an empty parent adds nothing.
std::string FieldPath(std::string_view parent, std::string_view name);
// "spec.ports" + 1 -> "spec.ports[1]".
std::string ItemPath(std::string_view parent, std::size_t index);
// `text` as it may stand in a message: in quotes, cut where it is long.
std::string Quoted(std::string_view text);

}  // namespace egress::policy
