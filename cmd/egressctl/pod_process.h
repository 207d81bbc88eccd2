// Finding a process of a pod from what the pinned maps know of the pod: the cookie of its network namespace.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace egress::ctl {

// A process whose network namespace has `cookie`; one with a mount namespace other than ours where there is one,
// since that is a container's. Needs CAP_SYS_ADMIN, and a /proc that shows the node's processes; nullopt without.
std::optional<pid_t> FindPodProcess(std::uint64_t cookie);

// At most 64 KiB of the regular file `path` as the process sees it, links resolved within its root. nullopt where
// there is none. Nothing else of the pod's files is read, and no code of it is run.
std::optional<std::string> ReadFileOf(pid_t pid, const std::string& path);

}  // namespace egress::ctl
