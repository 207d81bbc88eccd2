// The system calls that the proxy can do without.
#pragma once

#include "agent/base/result.h"

namespace egress {

// From here on every thread of the process may make only the calls that a running proxy makes: on the descriptors it
// has, on its memory, and between its threads. No call that opens, creates, executes or signals is among them; of bpf()
// only the look-up. Any other ends the process (SIGSYS). To be called when all threads exist; it lets no other begin.
Result<void> AllowOnlyNeededCalls();

}  // namespace egress
