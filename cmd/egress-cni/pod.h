// ADD and DEL of a pod.
#pragma once

#include "cmd/egress-cni/call.h"

namespace egress::cni {

// Returns when the pod's rules are in force, or when it is held to the mesh until they are, within two seconds. Problems
// go to standard error.
void AddPod(const Call& call);
// Tells the agent, if it is there.
void DeletePod(const Call& call);

}  // namespace egress::cni
