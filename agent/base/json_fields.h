// Reads fields of JSON that others wrote, without exceptions: what is not there, or of another type, is empty.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace egress {

// nullptr where `from` is no object (or nullptr itself), or has no such member.
inline const nlohmann::json* Member(const nlohmann::json* from, const char* name) {
  if (from == nullptr || !from->is_object()) return nullptr;
  const auto found = from->find(name);
  return found == from->end() ? nullptr : &*found;
}

inline std::string TextOf(const nlohmann::json* value) {
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

inline std::string TextAt(const nlohmann::json& from, const char* name) { return TextOf(Member(&from, name)); }

inline const nlohmann::json& ListAt(const nlohmann::json& from, const char* name) {
  static const nlohmann::json kNone = nlohmann::json::array();
  const nlohmann::json* list = Member(&from, name);
  return list != nullptr && list->is_array() ? *list : kNone;
}

}  // namespace egress
