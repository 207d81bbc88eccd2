#include "cmd/egressctl/output.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <iostream>

#include "cmd/egressd/json_text.h"

namespace egress::ctl {

using nlohmann::json;

namespace {

void Emit(YAML::Emitter& out, const json& value) {
  switch (value.type()) {
    case json::value_t::object:
      out << YAML::BeginMap;
      for (const auto& [key, member] : value.items()) {
        out << YAML::Key << key << YAML::Value;
        Emit(out, member);
      }
      out << YAML::EndMap;
      break;
    case json::value_t::array:
      if (value.empty()) out << YAML::Flow;
      out << YAML::BeginSeq;
      for (const json& item : value) Emit(out, item);
      out << YAML::EndSeq;
      break;
    case json::value_t::string: {
      // A text that another reader would take for a number, a boolean or null is quoted.
      const auto& text = value.get_ref<const std::string&>();
      const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '/' || c == '.' || c == '-' || c == '_' || c == ' ';
      }) && std::isalpha(static_cast<unsigned char>(text[0])) != 0;
      const bool word = text == "true" || text == "false" || text == "null" || text == "yes" || text == "no" ||
                        text == "on" || text == "off" || text == "y" || text == "n";
      if (!plain || word) out << YAML::DoubleQuoted;
      out << text;
      break;
    }
    case json::value_t::null: out << YAML::Null; break;
    default:  // numbers and booleans look the same in both
      out << value.dump();
  }
}

}  // namespace

std::string Table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::vector<std::string>> lines = {header};
  lines.insert(lines.end(), rows.begin(), rows.end());
  std::vector<std::size_t> widths(header.size(), 0);
  for (auto& line : lines) {
    line.resize(header.size());
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (line[i].empty()) line[i].push_back('-');
      widths[i] = std::max(widths[i], line[i].size());
    }
  }
  std::string text;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      text += line[i];
      if (i + 1 < line.size()) text.append(widths[i] - line[i].size() + 2, ' ');
    }
    text += '\n';
  }
  return text;
}

std::string Yaml(const json& value) {
  YAML::Emitter out;
  // What is not UTF-8 is replaced on the way through JSON text, as in the JSON form.
  Emit(out, json::parse(report::JsonText(value)));
  return std::string(out.c_str()) + "\n";
}

void WriteData(std::ostream& out, Format format, const json& value) {
  if (format == Format::kYaml) {
    out << Yaml(value);
  } else {
    out << report::JsonText(value, 2) << "\n";
  }
}

void Complain(const std::string& message) { std::cerr << "egressctl: " << message << "\n"; }

}  // namespace egress::ctl
