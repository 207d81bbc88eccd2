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
  const auto findings = check::FindProblems(config_unit, *manifests);
  if (options.format == Format::kTable) {
    check::WriteFindings(std::cout, findings);
  } else {
    nlohmann::json list = nlohmann::json::array();
    for (const policy::Finding& finding : findings) list.push_back(report::FindingToJson(finding));
    WriteData(std::cout, options.format, list);
  }
  return check::ExitStatus(findings) == 0 ? kExitOk : kExitNo;
}

}  // namespace egress::ctl
