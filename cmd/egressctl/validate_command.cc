#include <iostream>

#include "cmd/check.h"
#include "cmd/egressctl/commands.h"

namespace egress::ctl {

int ValidateCommand(const std::string& config, const std::vector<std::string>& files) {
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
  return check::Check(config_unit, *manifests, std::cout);
}

}  // namespace egress::ctl
