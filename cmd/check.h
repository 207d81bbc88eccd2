// What `egressd --check` and `egressctl validate` do: all findings of configuration and manifests, in one format.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/policy/model.h"

namespace egress::check {

// A text and the name under which findings show it.
struct Unit {
  std::string name;
  std::string text;
};

Result<Unit> ReadUnit(const std::string& path);

// A folder stands for the *.yaml, *.yml and *.json in it that are not hidden, as with --manifests. Fails where
// something cannot be read, and where a path is neither file nor folder.
Result<std::vector<Unit>> ReadUnits(const std::vector<std::string>& paths);

// Everything that is wrong, sorted by place. Without a configuration its defaults hold; where it has errors they are
// told, and the manifests are judged under the defaults.
std::vector<policy::Finding> FindProblems(const std::optional<Unit>& config, const std::vector<Unit>& manifests);

// 1 if there are errors, else 0.
int ExitStatus(const std::vector<policy::Finding>& findings);

// Writes a line for each problem, "FILE:LINE: error|warning: KIND NS/NAME: FIELD: MESSAGE", and returns ExitStatus().
int Check(const std::optional<Unit>& config, const std::vector<Unit>& manifests, std::ostream& out);

}  // namespace egress::check
