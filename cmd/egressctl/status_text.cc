#include "cmd/egressctl/status_text.h"

#include <algorithm>
#include <vector>

namespace egress::ctl {

using nlohmann::json;

namespace {

// A heading and a line for each item; nothing where there is none.
std::string Section(const std::string& heading, const std::vector<std::string>& lines) {
  if (lines.empty()) return {};
  std::string text = heading + ":\n";
  for (const std::string& line : lines) text += "  " + line + "\n";
  return text;
}

// "left   right", with the left ones padded to one width.
std::vector<std::string> Pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::size_t width = 0;
  for (const auto& [left, right] : pairs) width = std::max(width, left.size());
  std::vector<std::string> lines;
  for (const auto& [left, right] : pairs) lines.push_back(left + std::string(width - left.size() + 2, ' ') + right);
  return lines;
}

std::string ProxyText(const report::ProxyStatus& proxy) {
  std::string text = proxy.state;
  if (proxy.pid != 0) text += ", pid " + std::to_string(proxy.pid);
  if (proxy.restarts != 0) text += ", " + std::to_string(proxy.restarts) + " restarts";
  return text;
}

std::string KindText(const report::SourceKind& kind) {
  if (kind.state == "absent") return "not installed in the cluster";
  std::string text = kind.state + ", " + std::to_string(kind.objects) + " objects";
  if (!kind.synced) text += ", not all yet";
  if (!kind.error.empty()) text += ": " + kind.error;
  return text;
}

std::string SourceText(const report::AgentStatus& status) {
  const auto seconds = static_cast<long long>(status.age_seconds);
  return status.source + (seconds > 0 ? ", as it was " + std::to_string(seconds) + " s ago" : "");
}

std::string UseText(std::uint64_t entries, std::uint64_t capacity) {
  return std::to_string(entries) + " of " + std::to_string(capacity);
}

}  // namespace

std::string StatusText(const report::AgentStatus& status) {
  std::vector<std::string> findings;
  for (const policy::Finding& finding : status.findings) findings.push_back(finding.ToString());
  std::vector<std::pair<std::string, std::string>> programs;
  for (const report::AttachedProgram& program : status.programs) programs.emplace_back(program.program, program.where);
  std::vector<std::pair<std::string, std::string>> maps;
  for (const report::MapUse& use : status.maps) maps.emplace_back(use.map, UseText(use.entries, use.capacity));

  std::string text;
  for (const std::string& line : Pairs({{"version", status.version},
                                        {"ready", status.ready ? "yes" : "no"},
                                        {"started", status.started},
                                        {"source", SourceText(status)},
                                        {"enforcement", status.enforcement},
                                        {"generation", std::to_string(status.generation)},
                                        {"pods", std::to_string(status.pods_governed) + " governed, " +
                                                     std::to_string(status.pods_ungoverned) + " not"},
                                        {"policies", std::to_string(status.policies_valid) + " valid, " +
                                                         std::to_string(status.policies_invalid) + " invalid"},
                                        {"proxy", ProxyText(status.proxy)}})) {
    text += line + "\n";
  }
  std::vector<std::pair<std::string, std::string>> kinds;
  for (const report::SourceKind& kind : status.kinds) kinds.emplace_back(kind.kind, KindText(kind));
  text += Section("watched", Pairs(kinds));
  text += Section("problems", status.problems);
  text += Section("warnings", status.warnings);
  text += Section("findings", findings);
  text += Section("programs", Pairs(programs));
  text += Section("kernel", Pairs({status.features.begin(), status.features.end()}));
  text += Section("maps", Pairs(maps));
  return text;
}

std::string PinnedText(const json& pinned, const std::string& bpffs) {
  if (!pinned["pinned"].get<bool>()) {
    return "egressd does not run, and its maps cannot be read: " + pinned["problem"].get<std::string>() + "\n";
  }
  std::vector<std::pair<std::string, std::string>> maps;
  for (const json& use : pinned["maps"]) {
    maps.emplace_back(use["map"].get<std::string>(),
                      UseText(use["entries"].get<std::uint64_t>(), use["capacity"].get<std::uint64_t>()));
  }
  std::string text = "egressd does not run; what is pinned in " + bpffs +
                     " stays in force, but changes of policy do not reach it and http is refused\n";
  if (pinned.contains("problem")) text += "problem: " + pinned["problem"].get<std::string>() + "\n";
  text += Section("governed pods", pinned["pods"].get<std::vector<std::string>>());
  text += Section("maps", Pairs(maps));
  return text;
}

}  // namespace egress::ctl
