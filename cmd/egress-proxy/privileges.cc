#include "cmd/egress-proxy/privileges.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

namespace egress {
namespace {

constexpr uid_t kNobody = 65534;
constexpr rlim_t kDescriptors = 262'144;

void RaiseDescriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlimit wanted{kDescriptors, std::max(kDescriptors, limit.rlim_max)};
  if (::setrlimit(RLIMIT_NOFILE, &wanted) == 0) return;
  // Without the privilege, or over the system's bound: as far as allowed.
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Result<void> CloseAllBut(int channel_fd) {
  // Standard input and output become /dev/null, so that no other descriptor takes their numbers.
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return ErrnoError("open /dev/null");
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  const auto channel = static_cast<unsigned>(channel_fd);
  if (channel > 3 && ::close_range(3, channel - 1, 0) != 0) return ErrnoError("close descriptors");
  if (::close_range(channel + 1, ~0U, 0) != 0) return ErrnoError("close descriptors");
  return {};
}

Result<void> ChangeUser() {
  if (::geteuid() != 0) return {};
  if (::setgroups(0, nullptr) != 0) return ErrnoError("drop groups");
  if (::setresgid(kNobody, kNobody, kNobody) != 0) return ErrnoError("change group");
  if (::setresuid(kNobody, kNobody, kNobody) != 0) return ErrnoError("change user");
  return {};
}

// With CAP_SETPCAP the bounding set goes too; without it no-new-privs has the same effect.
Result<void> DropCapabilities() {
  capng_clear(CAPNG_SELECT_BOTH);
  if (capng_apply(CAPNG_SELECT_CAPS) != 0) return Error{"cannot drop capabilities"};
  if (capng_have_capabilities(CAPNG_SELECT_CAPS) != CAPNG_NONE) return Error{"capabilities are left"};
  return {};
}

}  // namespace

Result<void> DropPrivileges(int channel_fd) {
  RaiseDescriptors();
  if (Result<void> closed = CloseAllBut(channel_fd); !closed) return closed;
  if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) == 1) {
    capng_clear(CAPNG_SELECT_BOUNDS);
    capng_apply(CAPNG_SELECT_BOUNDS);
  }
  if (Result<void> changed = ChangeUser(); !changed) return changed;
  if (Result<void> dropped = DropCapabilities(); !dropped) return dropped;
  // The agent asked for this too, but a change of user clears it. Should the agent die just before, the end of the
  // channel says the same.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return ErrnoError("die with the agent");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return ErrnoError("set no-new-privs");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return ErrnoError("make the process undumpable");
  return {};
}

}  // namespace egress
