#include <iostream>

#include "cmd/egressctl/commands.h"

namespace egress::ctl {

int VersionCommand(const Options& options) {
  if (options.format == Format::kTable) {
    std::cout << "egressctl " EGRESS_VERSION "\n";
  } else {
    WriteData(std::cout, options.format, {{"version", EGRESS_VERSION}});
  }
  return kExitOk;
}

}  // namespace egress::ctl
