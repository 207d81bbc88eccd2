// Everything that the proxy gives up before it reads the first byte.
#pragma once

#include <sys/types.h>

#include "agent/base/result.h"

namespace egress {

// Of nobody else: in the ranges of Debian and systemd it is unused, and it has no entry in passwd.
constexpr uid_t kProxyUser = 65529;
constexpr gid_t kProxyGroup = 65529;

// Raises the bound on descriptors and closes all but `channel_fd` and standard error; where it was root, moves into
// namespaces of its own with an empty file system and no network, and becomes kProxyUser; keeps no capability, no way
// to gain one, no core and no memory that another process could read. What the node does not let it give up (a profile
// that forbids mount) is logged.
Result<void> DropPrivileges(int channel_fd);

}  // namespace egress
