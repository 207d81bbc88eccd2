#include "cmd/egress-proxy/privileges.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace egress {
namespace {

constexpr rlim_t kDescriptors = 262'144;

void RaiseDescriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlimit wanted{kDescriptors, std::max(kDescriptors, limit.rlim_max)};
  if (::setrlimit(RLIMIT_NOFILE, &wanted) == 0) return;
  // Without the privilege, or over the system's bound: as far as allowed.
  limit.rlim_cur = std::min(kDescriptors, limit.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Result<void> BoundFiles() {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return ErrnoError("forbid core files");
  struct stat log {};
  // The only file that it could ever write to is its log, where that is one.
  const bool logs_to_file = ::fstat(STDERR_FILENO, &log) == 0 && S_ISREG(log.st_mode);
  if (!logs_to_file && ::setrlimit(RLIMIT_FSIZE, &none) != 0) return ErrnoError("forbid writing files");
  return {};
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

// An empty, read-only file system becomes the root. It is mounted on /proc, which is there wherever the agent works.
Result<void> EnterEmptyRoot() {
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return ErrnoError("make mounts private");
  constexpr unsigned long kFlags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (::mount("empty", "/proc", "tmpfs", kFlags, "size=4k,nr_inodes=2,mode=555") != 0)
    return ErrnoError("mount a tmpfs");
  if (::chdir("/proc") != 0) return ErrnoError("enter the empty root");
  if (::syscall(SYS_pivot_root, ".", ".") == 0) {
    // The old root lies over the new one now (pivot_root(2), "pivot_root(".", ".")").
    if (::umount2(".", MNT_DETACH) != 0) return ErrnoError("leave the old root");
  } else if (::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || ::chroot(".") != 0) {
    return ErrnoError("change the root");  // the first way fails on an initramfs
  }
  if (::chdir("/") != 0) return ErrnoError("enter the new root");
  return {};
}

// Its sockets are made elsewhere and keep their network namespace: it needs neither a network nor files.
void EnterOwnNamespaces() {
  if (::unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC) != 0) {
    return spdlog::warn("egress-proxy has no namespaces of its own: {}", ErrnoError("unshare").message);
  }
  if (Result<void> entered = EnterEmptyRoot(); !entered) {
    spdlog::warn("egress-proxy sees the agent's files, though it may open none: {}", entered.error().message);
  }
}

Result<void> ChangeUser() {
  if (::setgroups(0, nullptr) != 0) return ErrnoError("drop groups");
  if (::setresgid(kProxyGroup, kProxyGroup, kProxyGroup) != 0) return ErrnoError("change group");
  if (::setresuid(kProxyUser, kProxyUser, kProxyUser) != 0) return ErrnoError("change user");
  return {};
}

// With CAP_SETPCAP the bounding set goes too; without it no-new-privs has the same effect.
void DropBoundingSet() {
  if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 1) return;
  capng_clear(CAPNG_SELECT_BOUNDS);
  capng_apply(CAPNG_SELECT_BOUNDS);
}

Result<void> DropCapabilities() {
  capng_clear(CAPNG_SELECT_BOTH);
  if (capng_apply(CAPNG_SELECT_CAPS) != 0) return Error{"cannot drop capabilities"};
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return ErrnoError("drop ambient capabilities");
  if (capng_have_capabilities(CAPNG_SELECT_CAPS) != CAPNG_NONE) return Error{"capabilities are left"};
  return {};
}

}  // namespace

Result<void> DropPrivileges(int channel_fd) {
  // The log's time zone is read from a file.
  ::tzset();
  RaiseDescriptors();
  if (Result<void> bounded = BoundFiles(); !bounded) return bounded;
  if (Result<void> closed = CloseAllBut(channel_fd); !closed) return closed;
  if (::geteuid() == 0) EnterOwnNamespaces();
  DropBoundingSet();
  if (::geteuid() == 0) {
    if (Result<void> changed = ChangeUser(); !changed) return changed;
  }
  if (Result<void> dropped = DropCapabilities(); !dropped) return dropped;
  // The agent asked for this too, but a change of user clears it. Should the agent die just before, the end of the
  // channel says the same.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return ErrnoError("die with the agent");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return ErrnoError("set no-new-privs");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return ErrnoError("make the process undumpable");
  return {};
}

}  // namespace egress
