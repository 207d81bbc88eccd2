#include <iostream>

#include "cmd/check.h"
#include "cmd/egressctl/commands.h"
#include "cmd/egressd/status.h"

namespace egress::ctl {

int ValidateCommand(const Options& options, const std::string& config, const std::vector<std::string>& files) {
  std::optional<check::Unit> config_unit;
  if (!config.empty()) {
    auto read = check::ReadUnit(config);
    if (!read) {
      Complain(read.error().message);
      return kExitError;
    }
    config_unit = *std::move(read);
  }
  const auto manifests = check::ReadUnits(files);
  if (!manifests) {
    Complain(manifests.error().message);
    return kExitError;
  }
  if (options.format == Format::kTable) return check::Check(config_unit, *manifests, std::cout);
  const auto findings = check::FindProblems(config_unit, *manifests);
  nlohmann::json list = nlohmann::json::array();
  for (const policy::Finding& finding : findings) list.push_back(report::FindingToJson(finding));
  WriteData(std::cout, options.format, list);
  return check::ExitStatus(findings);
}

}  // namespace egress::ctl
