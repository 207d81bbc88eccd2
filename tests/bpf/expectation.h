// What the kernel must answer, from PolicyIndex and SEMANTICS; knows nothing of maps, classes and groups.
#pragma once

#include <string>

#include "tests/bpf/pod_fleet.h"

namespace egress::test {

// The question as the kernel takes it. A name that no ClientHello can bear is left out.
judge_probe ProbeOf(const FleetPod& pod, const Question& question);

// What differs between the kernel's answer and what is expected, in words; empty: nothing.
std::string Difference(const PodFleet& fleet, const FleetPod& pod, const Question& question, const judge_probe& answer);

// Does the whole flow pass, the name of a ClientHello included?
bool Passes(const judge_probe& answer);

}  // namespace egress::test
