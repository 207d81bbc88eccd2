// How answers are written: as a table for people, as JSON or YAML for programs. No colours.
#pragma once

#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

namespace egress::ctl {

enum class Format { kTable, kJson, kYaml };

// What all commands share.
struct Options {
  std::string run_dir = "/run/egressd";
  std::string bpffs = "/sys/fs/bpf/egressd";
  Format format = Format::kTable;
};

enum Exit { kExitOk = 0, kExitNo = 1, kExitError = 2 };

// Columns as wide as their widest cell, two blanks apart; no blanks at the end of a line. An empty cell is "-".
std::string Table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);

// `value` as a YAML document, with a newline at its end.
std::string Yaml(const nlohmann::json& value);

// `value` as JSON (indented) or YAML. Not for Format::kTable.
void WriteData(std::ostream& out, Format format, const nlohmann::json& value);

// "egressctl: MESSAGE" on stderr.
void Complain(const std::string& message);

}  // namespace egress::ctl
