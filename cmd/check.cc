#include "cmd/check.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "agent/policy/settings.h"
#include "agent/policy/store.h"

namespace egress::check {

namespace fs = std::filesystem;

namespace {

bool IsManifest(const fs::path& path) {
  const std::string extension = path.extension().string();
  const bool known = extension == ".yaml" || extension == ".yml" || extension == ".json";
  return known && path.filename().string().front() != '.';
}

Result<std::vector<std::string>> ManifestsIn(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (IsManifest(entry->path()) && entry->is_regular_file()) files.push_back(entry->path().string());
  }
  if (error) return Error{"read the folder " + folder + ": " + error.message()};
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

Result<Unit> ReadUnit(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return Error{"read " + path + ": it is a folder: name a file"};
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return ErrnoError("read " + path);
  Unit unit{path, {std::istreambuf_iterator<char>(file), {}}};
  if (file.bad()) return ErrnoError("read " + path);
  return unit;
}

Result<std::vector<Unit>> ReadUnits(const std::vector<std::string>& paths) {
  std::vector<Unit> units;
  for (const std::string& path : paths) {
    std::vector<std::string> files = {path};
    std::error_code error;
    if (fs::is_directory(path, error)) {
      auto found = ManifestsIn(path);
      if (!found) return std::move(found).error();
      files = *std::move(found);
    }
    for (const std::string& file : files) {
      auto unit = ReadUnit(file);
      if (!unit) return std::move(unit).error();
      units.push_back(*std::move(unit));
    }
  }
  return units;
}

std::vector<policy::Finding> FindProblems(const std::optional<Unit>& config, const std::vector<Unit>& manifests) {
  std::vector<policy::Finding> findings;
  policy::Settings settings;
  if (config) {
    auto parsed = policy::ParseConfig(config->name, config->text, &findings);
    if (parsed) settings = std::move(parsed->settings);
  }
  policy::Store store(settings);
  for (const Unit& unit : manifests) store.SetUnit(unit.name, unit.text);
  [[maybe_unused]] const policy::Changes changes = store.Commit();
  const std::vector<policy::Finding> more = store.Findings();
  findings.insert(findings.end(), more.begin(), more.end());
  return findings;
}

int ExitStatus(const std::vector<policy::Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(),
                     [](const policy::Finding& finding) { return finding.severity == policy::Severity::kError; });
}

int Check(const std::optional<Unit>& config, const std::vector<Unit>& manifests, std::ostream& out) {
  const auto findings = FindProblems(config, manifests);
  for (const policy::Finding& finding : findings) out << finding.ToString() << "\n";
  return ExitStatus(findings);
}

}  // namespace egress::check
