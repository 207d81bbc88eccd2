#include "cmd/egress-proxy/system_calls.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <memory>

namespace egress {
namespace {

// Calls whose arguments do not matter.
constexpr int kAllowed[] = {
    // Connections: sockets that the agent made, and those accepted on them.
    SCMP_SYS(accept4), SCMP_SYS(connect), SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(recvmsg),
    SCMP_SYS(shutdown), SCMP_SYS(getpeername), SCMP_SYS(close),
    // Events, the log, and the inboxes of the threads.
    SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(read),
    SCMP_SYS(write),
    // Memory; mmap and mprotect follow.
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
    // Threads: those that begin, wait or end.
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall), SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    // How many CPUs there are, for the heaps of the C library.
    SCMP_SYS(sched_getaffinity),
    // The clock, where the vDSO does not serve; randomness for the C library.
    SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(getrandom)};

// The C library opens files of /proc and /sys by itself when it manages heaps, and copes without. There is nothing to
// open; but its asking must not end the process, so it is told so.
constexpr int kRefused[] = {SCMP_SYS(open), SCMP_SYS(openat)};

struct Option {
  int level;
  int name;
};

constexpr Option kSetOptions[] = {{SOL_SOCKET, SO_LINGER},      {SOL_SOCKET, SO_KEEPALIVE},
                                  {IPPROTO_TCP, TCP_NODELAY},   {IPPROTO_TCP, TCP_KEEPIDLE},
                                  {IPPROTO_TCP, TCP_KEEPINTVL}, {IPPROTO_TCP, TCP_KEEPCNT}};
constexpr Option kGetOptions[] = {{SOL_SOCKET, SO_ERROR}};
constexpr int kDescriptorCommands[] = {F_GETFL, F_SETFL, F_SETFD, F_DUPFD_CLOEXEC};

// Collects the rules; keeps the first error.
class Filter {
 public:
  Filter() : context_(::seccomp_init(SCMP_ACT_KILL_PROCESS), &::seccomp_release) {}

  template <typename... Comparisons>
  void Allow(int call, Comparisons... comparisons) {
    Add(SCMP_ACT_ALLOW, call, comparisons...);
  }

  void Refuse(int call) { Add(SCMP_ACT_ERRNO(EACCES), call); }

  Result<void> Load() {
    if (context_ == nullptr) return Error{"no memory for the filter of system calls"};
    // All threads or none.
    if (error_ == 0) error_ = ::seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_TSYNC, 1);
    if (error_ == 0) error_ = ::seccomp_load(context_.get());
    if (error_ != 0) return ErrnoError("filter system calls (the kernel needs CONFIG_SECCOMP_FILTER)", -error_);
    return {};
  }

 private:
  template <typename... Comparisons>
  void Add(std::uint32_t action, int call, Comparisons... comparisons) {
    // A call that this architecture does not have is not there to be made either.
    if (call < 0 || error_ != 0) return;
    error_ = ::seccomp_rule_add_exact(context_.get(), action, call, sizeof...(comparisons), comparisons...);
  }

  std::unique_ptr<void, decltype(&::seccomp_release)> context_;
  int error_ = 0;
};

}  // namespace

Result<void> AllowOnlyNeededCalls() {
  // The filter lets none begin either; this holds where a kernel has no filters.
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_NPROC, &none) != 0) return ErrnoError("forbid new threads");
  Filter filter;
  for (const int call : kAllowed) filter.Allow(call);
  for (const int call : kRefused) filter.Refuse(call);
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
    filter.Allow(call, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  }
  for (const auto& [level, name] : kSetOptions) {
    filter.Allow(SCMP_SYS(setsockopt), SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(level)),
                 SCMP_A2(SCMP_CMP_EQ, static_cast<scmp_datum_t>(name)));
  }
  for (const auto& [level, name] : kGetOptions) {
    filter.Allow(SCMP_SYS(getsockopt), SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(level)),
                 SCMP_A2(SCMP_CMP_EQ, static_cast<scmp_datum_t>(name)));
  }
  for (const int command : kDescriptorCommands) {
    filter.Allow(SCMP_SYS(fcntl), SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(command)));
  }
  filter.Allow(SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, SIOCOUTQ));
  filter.Allow(SCMP_SYS(bpf), SCMP_A0(SCMP_CMP_EQ, BPF_MAP_LOOKUP_ELEM));
  return filter.Load();
}

}  // namespace egress
