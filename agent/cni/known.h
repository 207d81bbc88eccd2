// Known: what the agent knew last, kept across a reboot for egress-cni, which has to decide while the agent is away.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/result.h"

namespace egress::cni {

enum class Enrolment { kUnknown, kEnrolled, kNotEnrolled };

struct Known {
  std::vector<Prefix> mesh_cidrs;
  std::set<std::string> enrolled;  // names of namespaces
  std::set<std::string> not_enrolled;
  bool operator==(const Known&) const = default;

  // One that stands in both counts as enrolled.
  Enrolment Of(const std::string& ns) const;
};

// Fails where the file is missing or anything in it is not understood: nothing is known then.
Result<Known> ReadKnown(const std::string& path);
// Makes the folder where it is not there.
Result<void> WriteKnown(const std::string& path, const Known& known);

}  // namespace egress::cni
