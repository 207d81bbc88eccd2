// The capabilities that egressd works with. All others go before it reads its first manifest.
#pragma once

#include "agent/base/result.h"

namespace egress::agent {

// Keeps the capabilities of the list in capabilities.cc, in the permitted, effective and bounding sets; none is
// inheritable or ambient, and no program that is started can gain one (no-new-privs). For the calling thread and those
// it starts, so: before there are others. Fails, and names them with what they are for, where some of the list are
// missing.
Result<void> KeepNeededCapabilities();

}  // namespace egress::agent
