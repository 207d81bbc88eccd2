// What `egressd --check` and `egressctl validate` do: all findings of configuration and manifests, in one format.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace egress::check {

// A text and the name under which findings show it.
struct Unit {
  std::string name;
  std::string text;
};

// A folder stands for the *.yaml, *.yml and *.json in it, as with --manifests; sorted by name. Fails where something
// cannot be read.
Result<std::vector<Unit>> ReadUnits(const std::vector<std::string>& paths);
Result<Unit> ReadUnit(const std::string& path);

// Writes a line for each finding, "FILE:LINE: error|warning: KIND NS/NAME: FIELD: MESSAGE", sorted by place. Without
// a configuration its defaults hold; one with errors is reported, and the manifests are checked under the defaults.
// Returns the exit status: 0 without errors (warnings change nothing), 1 with.
int Check(const std::optional<Unit>& config, const std::vector<Unit>& manifests, std::ostream& out);

}  // namespace egress::check
