// Everything that the proxy gives up before it reads the first byte.
#pragma once

#include "agent/base/result.h"

namespace egress {

// Raises the bound on descriptors, closes all of them but `channel_fd` and standard error, becomes the user nobody
// where it was root, and keeps no capability, no way to gain one, and no core that another process could read.
Result<void> DropPrivileges(int channel_fd);

}  // namespace egress
