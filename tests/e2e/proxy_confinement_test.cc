// A process that has given up what egress-proxy gives up tries to get out.
//
// Each attempt runs in a child, which hands back what the call returned, unless the kernel has ended it.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/fd.h"
#include "cmd/egress-proxy/privileges.h"
#include "cmd/egress-proxy/system_calls.h"

namespace egress {
namespace {

// What a call came to.
struct Outcome {
  int signal = 0;   // that ended the process
  int error = 0;    // errno where the call failed
  long result = 0;  // what it returned otherwise
};

// The descriptors that the child is handed once it is confined, as the agent hands them to the proxy.
using Handed = std::vector<int>;
using Attempt = std::function<long(const Handed&)>;

void SendFds(int channel, const Handed& fds) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  ASSERT_EQ(::sendmsg(channel, &message, 0), 1);
}

Handed ReceiveFds(int channel, std::size_t count) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  Handed fds(count, -1);
  if (::recvmsg(channel, &message, 0) == 1 && count > 0 && CMSG_FIRSTHDR(&message) != nullptr) {
    std::memcpy(fds.data(), CMSG_DATA(CMSG_FIRSTHDR(&message)), count * sizeof(int));
  }
  return fds;
}

// The child's side: confined, then the attempt. Exit status 100: it could not even be confined.
[[noreturn]] void RunConfined(int channel, bool filtered, std::size_t handed, const Attempt& attempt) {
  if (!DropPrivileges(channel) || (filtered && !AllowOnlyNeededCalls())) ::_exit(100);
  const Handed fds = ReceiveFds(channel, handed);
  errno = 0;
  const long result = attempt(fds);
  const long said[2] = {result, result < 0 ? errno : 0};
  if (::write(channel, said, sizeof said) != sizeof said) ::_exit(101);
  ::_exit(0);
}

Outcome Try(bool filtered, const Attempt& attempt, const Handed& fds = {}) {
  int pair[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const Fd ours(pair[0]);
  Fd theirs(pair[1]);
  const pid_t child = ::fork();
  if (child == 0) RunConfined(theirs.get(), filtered, fds.size(), attempt);
  theirs.Reset();
  SendFds(ours.get(), fds);
  long said[2] = {-1, 0};
  const ssize_t got = ::read(ours.get(), said, sizeof said);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) return {.signal = WTERMSIG(status)};
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(got, static_cast<ssize_t>(sizeof said));
  return {.error = static_cast<int>(said[1]), .result = said[0]};
}

Outcome InFilter(const Attempt& attempt, const Handed& fds = {}) { return Try(true, attempt, fds); }
Outcome WithoutFilter(const Attempt& attempt, const Handed& fds = {}) { return Try(false, attempt, fds); }

struct Named {
  const char* name;
  Attempt attempt;
};

// A map of one entry, 42, and its read-only descriptor where asked for.
Fd MapOfOne(unsigned flags = 0) {
  bpf_attr create{};
  create.map_type = BPF_MAP_TYPE_ARRAY;
  create.key_size = 4;
  create.value_size = 8;
  create.max_entries = 1;
  create.map_flags = flags;
  Fd map(static_cast<int>(::syscall(SYS_bpf, BPF_MAP_CREATE, &create, sizeof create)));
  EXPECT_TRUE(map) << std::strerror(errno);
  return map;
}

bpf_attr Element(int map, const int* key, long* value) {
  bpf_attr element{};
  element.map_fd = static_cast<__u32>(map);
  element.key = reinterpret_cast<__u64>(key);
  element.value = reinterpret_cast<__u64>(value);
  return element;
}

long Bpf(int command, bpf_attr attributes) { return ::syscall(SYS_bpf, command, &attributes, sizeof attributes); }

// A listener on loopback, and its port in network order.
struct Listening {
  Fd socket;
  sockaddr_in address{};
};

Listening ListenOnLoopback() {
  Listening made;
  made.socket.Reset(::socket(AF_INET, SOCK_STREAM, 0));
  made.address.sin_family = AF_INET;
  made.address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::bind(made.socket.get(), reinterpret_cast<sockaddr*>(&made.address), sizeof made.address), 0);
  EXPECT_EQ(::listen(made.socket.get(), 8), 0);
  socklen_t size = sizeof made.address;
  EXPECT_EQ(::getsockname(made.socket.get(), reinterpret_cast<sockaddr*>(&made.address), &size), 0);
  return made;
}

const pid_t kTest = ::getpid();

// ---- With all of it ----

TEST(ProxyConfinement, EachCallThatLeadsOutEndsTheProcess) {
  static char* no_words[] = {nullptr};
  const Named attempts[] = {
      {"openat2", [](const Handed&) { return ::syscall(SYS_openat2, AT_FDCWD, "/", nullptr, 0); }},
      {"open_by_handle_at", [](const Handed&) { return ::syscall(SYS_open_by_handle_at, 0, nullptr, 0); }},
      {"memfd_create", [](const Handed&) { return ::syscall(SYS_memfd_create, "code", 0); }},
      {"socket, IPv4", [](const Handed&) { return ::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0); }},
      {"socket, IPv6", [](const Handed&) { return ::syscall(SYS_socket, AF_INET6, SOCK_DGRAM, 0); }},
      {"socket, Unix", [](const Handed&) { return ::syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }},
      {"socket, netlink", [](const Handed&) { return ::syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 0); }},
      {"socket, packet", [](const Handed&) { return ::syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0); }},
      {"socketpair", [](const Handed&) { return ::syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, nullptr); }},
      {"bind", [](const Handed& fds) { return ::syscall(SYS_bind, fds[0], nullptr, 0); }},
      {"listen", [](const Handed& fds) { return ::syscall(SYS_listen, fds[0], 1); }},
      {"execve", [](const Handed&) { return ::syscall(SYS_execve, "/bin/sh", no_words, no_words); }},
      {"execveat", [](const Handed& fds) { return ::syscall(SYS_execveat, fds[0], "", no_words, no_words, 0); }},
      {"clone", [](const Handed&) { return ::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }},
      {"clone3", [](const Handed&) { return ::syscall(SYS_clone3, nullptr, 0); }},
      {"unshare", [](const Handed&) { return ::syscall(SYS_unshare, CLONE_NEWUSER); }},
      {"setns", [](const Handed& fds) { return ::syscall(SYS_setns, fds[0], 0); }},
      {"mount", [](const Handed&) { return ::syscall(SYS_mount, "none", "/", "tmpfs", 0, nullptr); }},
      {"chroot", [](const Handed&) { return ::syscall(SYS_chroot, "/"); }},
      {"pivot_root", [](const Handed&) { return ::syscall(SYS_pivot_root, "/", "/"); }},
      {"ptrace", [](const Handed&) { return ::syscall(SYS_ptrace, PTRACE_ATTACH, kTest, 0, 0); }},
      {"process_vm_readv",
       [](const Handed&) { return ::syscall(SYS_process_vm_readv, kTest, nullptr, 0, nullptr, 0, 0); }},
      {"kill", [](const Handed&) { return ::syscall(SYS_kill, kTest, 0); }},
      {"tgkill", [](const Handed&) { return ::syscall(SYS_tgkill, kTest, kTest, 0); }},
      {"pidfd_open", [](const Handed&) { return ::syscall(SYS_pidfd_open, kTest, 0); }},
      {"pidfd_getfd", [](const Handed& fds) { return ::syscall(SYS_pidfd_getfd, fds[0], 0, 0); }},
      {"setuid", [](const Handed&) { return ::syscall(SYS_setuid, 0); }},
      {"setgroups", [](const Handed&) { return ::syscall(SYS_setgroups, 0, nullptr); }},
      {"capset", [](const Handed&) { return ::syscall(SYS_capset, nullptr, nullptr); }},
      {"prctl", [](const Handed&) { return ::syscall(SYS_prctl, 0, 0, 0, 0, 0); }},
      {"prlimit64", [](const Handed&) { return ::syscall(SYS_prlimit64, 0, 0, nullptr, nullptr); }},
      {"seccomp", [](const Handed&) { return ::syscall(SYS_seccomp, 1, 0, nullptr); }},
      {"io_uring_setup", [](const Handed&) { return ::syscall(SYS_io_uring_setup, 8, nullptr); }},
      {"perf_event_open", [](const Handed&) { return ::syscall(SYS_perf_event_open, nullptr, 0, 0, 0, 0); }},
      {"userfaultfd", [](const Handed&) { return ::syscall(SYS_userfaultfd, 0); }},
      {"keyctl", [](const Handed&) { return ::syscall(SYS_keyctl, 0, 0, 0, 0, 0); }},
      {"bpf, make a map", [](const Handed&) { return Bpf(BPF_MAP_CREATE, {}); }},
      {"bpf, load a program", [](const Handed&) { return Bpf(BPF_PROG_LOAD, {}); }},
      {"bpf, open a map", [](const Handed&) { return Bpf(BPF_MAP_GET_FD_BY_ID, {}); }},
      {"bpf, open a pin", [](const Handed&) { return Bpf(BPF_OBJ_GET, {}); }},
      {"executable memory",
       [](const Handed&) {
         return ::syscall(SYS_mmap, nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       }},
      {"memory that becomes executable",
       [](const Handed&) {
         void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         return ::syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC);
       }},
      {"another interface",
       [](const Handed& fds) { return ::syscall(SYS_setsockopt, fds[0], SOL_SOCKET, SO_BINDTODEVICE, "lo", 3); }},
      {"a repaired connection",
       [](const Handed& fds) {
         const int on = 1;
         return ::syscall(SYS_setsockopt, fds[0], IPPROTO_TCP, TCP_REPAIR, &on, sizeof on);
       }},
      {"a filter on a socket",
       [](const Handed& fds) { return ::syscall(SYS_setsockopt, fds[0], SOL_SOCKET, SO_ATTACH_BPF, nullptr, 0); }},
      {"the interfaces of a socket's namespace",
       [](const Handed& fds) { return ::syscall(SYS_ioctl, fds[0], 0x8912 /* SIOCGIFCONF */, nullptr); }},
      {"signals of a descriptor", [](const Handed& fds) { return ::syscall(SYS_fcntl, fds[0], F_SETOWN, kTest); }},
  };
  const Listening listening = ListenOnLoopback();
  for (const auto& [name, attempt] : attempts) {
    const Outcome outcome = InFilter(attempt, {listening.socket.get()});
    EXPECT_EQ(outcome.signal, SIGSYS) << name << ": result " << outcome.result << ", errno " << outcome.error;
  }
}

TEST(ProxyConfinement, OfBpfOnlyTheLookUpIsLeft) {
  const Fd map = MapOfOne();
  const int key = 0;
  long value = 42;
  ASSERT_EQ(Bpf(BPF_MAP_UPDATE_ELEM, Element(map.get(), &key, &value)), 0);
  const auto with = [](int command) {
    return [command](const Handed& fds) {
      const int zero = 0;
      long found = 7;
      const long result = Bpf(command, Element(fds[0], &zero, &found));
      return result == 0 ? found : result;
    };
  };
  EXPECT_EQ(InFilter(with(BPF_MAP_LOOKUP_ELEM), {map.get()}).result, 42);
  for (const int command : {BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY,
                            BPF_MAP_LOOKUP_AND_DELETE_ELEM, BPF_MAP_UPDATE_BATCH, BPF_MAP_FREEZE, BPF_OBJ_PIN}) {
    EXPECT_EQ(InFilter(with(command), {map.get()}).signal, SIGSYS) << command;
  }
  long found = 0;
  ASSERT_EQ(Bpf(BPF_MAP_LOOKUP_ELEM, Element(map.get(), &key, &found)), 0);
  EXPECT_EQ(found, 42);
}

TEST(ProxyConfinement, ConnectionsAreServedOnHandedSockets) {
  const Listening inside = ListenOnLoopback();
  const Listening outside = ListenOnLoopback();
  const Fd upstream(::socket(AF_INET, SOCK_STREAM, 0));
  const Fd client(::socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&inside.address), sizeof inside.address), 0);
  ASSERT_EQ(::send(client.get(), "ping", 4, 0), 4);
  const Fd epoll(::epoll_create1(0));
  const auto relay = [&](const Handed& fds) -> long {
    const int accepted = ::accept4(fds[0], nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted < 0) return -1;
    epoll_event event{.events = EPOLLIN, .data = {}};
    if (::epoll_ctl(fds[2], EPOLL_CTL_ADD, accepted, &event) != 0 || ::epoll_wait(fds[2], &event, 1, 5000) != 1)
      return -1;
    char bytes[4];
    if (::recv(accepted, bytes, sizeof bytes, 0) != 4) return -1;
    if (::connect(fds[1], reinterpret_cast<const sockaddr*>(&outside.address), sizeof outside.address) != 0) return -1;
    iovec part{bytes, sizeof bytes};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const int on = 1;
    ::setsockopt(fds[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::vector<char> memory(8 << 20, 'x');  // a mapping of its own
    const long sent = ::sendmsg(fds[1], &message, MSG_NOSIGNAL);
    return ::shutdown(fds[1], SHUT_WR) == 0 ? sent : -1;
  };
  const Outcome outcome = InFilter(relay, {inside.socket.get(), upstream.get(), epoll.get()});
  EXPECT_EQ(outcome.signal, 0);
  EXPECT_EQ(outcome.result, 4) << std::strerror(outcome.error);
  const Fd arrived(::accept(outside.socket.get(), nullptr, nullptr));
  char bytes[8];
  ASSERT_EQ(::recv(arrived.get(), bytes, sizeof bytes, 0), 4);
  EXPECT_EQ(std::string(bytes, 4), "ping");
}

// How a process ends whose thread, there before the filter, does `work` in it.
int StatusOfThread(const std::function<void()>& work) {
  int pair[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const Fd ours(pair[0]);
  Fd theirs(pair[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    int wait[2];
    if (!DropPrivileges(theirs.get()) || ::pipe(wait) != 0) ::_exit(100);
    std::thread thread([&] {
      char byte = 0;
      if (::read(wait[0], &byte, 1) == 1) work();
    });
    if (!AllowOnlyNeededCalls()) ::_exit(100);
    if (::write(wait[1], "x", 1) != 1) ::_exit(101);
    thread.join();
    ::_exit(0);
  }
  theirs.Reset();
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

TEST(ProxyConfinement, TheFilterHoldsInThreadsThatWereThereBefore) {
  const int status = StatusOfThread([] { ::syscall(SYS_memfd_create, "code", 0); });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGSYS);
}

// glibc reads /proc/sys/vm/overcommit_memory before it gives the memory of a thread's heap back for the first time.
TEST(ProxyConfinement, AThreadGivesMemoryBack) {
  const int status = StatusOfThread([] {
    std::vector<std::unique_ptr<char[]>> blocks;
    for (int i = 0; i < 100; ++i) blocks.push_back(std::make_unique<char[]>(60'000));
    blocks.clear();
  });
  EXPECT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// ... and the files that tell how many CPUs there are, before it makes the ninth heap.
TEST(ProxyConfinement, TheLibraryIsToldThatThereAreNoFiles) {
  const auto open = [](const char* path, int flags) {
    return [=](const Handed&) { return ::syscall(SYS_openat, AT_FDCWD, path, flags); };
  };
  for (const char* path : {"/", "/etc/passwd", "/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu/online"}) {
    const Outcome outcome = InFilter(open(path, O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(outcome.signal, 0) << path;
    EXPECT_EQ(outcome.result, -1) << path;
    EXPECT_EQ(outcome.error, EACCES) << path;
  }
  EXPECT_GT(InFilter([](const Handed&) -> long { return ::get_nprocs(); }).result, 0);
}

// ---- Without the filter: what the other layers refuse by themselves ----

TEST(ProxyConfinement, TheRootIsEmptyAndReadOnly) {
  const auto entries = [](const Handed&) -> long {
    DIR* root = ::opendir("/");
    if (root == nullptr) return -1;
    long count = 0;
    while (const dirent* entry = ::readdir(root)) {
      if (std::string(entry->d_name) != "." && std::string(entry->d_name) != "..") ++count;
    }
    return count;
  };
  const Outcome listed = WithoutFilter(entries);
  EXPECT_EQ(listed.result, 0) << std::strerror(listed.error);
  for (const char* path : {"/etc/passwd", "/proc/self/status", "/sys/fs/bpf", "/dev/null", "../etc/passwd", "/.."}) {
    const Outcome outcome = WithoutFilter([path](const Handed&) -> long { return ::open(path, O_RDONLY); });
    if (std::string(path) == "/..") continue;  // the root itself
    EXPECT_EQ(outcome.error, ENOENT) << path;
  }
  const auto write = [](const Handed&) -> long { return ::open("/file", O_WRONLY | O_CREAT, 0600); };
  EXPECT_EQ(WithoutFilter(write).error, EROFS);
}

TEST(ProxyConfinement, NoPrivilegeIsLeft) {
  const Named attempts[] = {
      {"setuid", [](const Handed&) -> long { return ::setuid(0); }},
      {"setgroups", [](const Handed&) -> long { return ::syscall(SYS_setgroups, 0, nullptr); }},
      {"unshare", [](const Handed&) -> long { return ::unshare(CLONE_NEWNET); }},
      {"mount", [](const Handed&) -> long { return ::mount("none", "/", "tmpfs", 0, nullptr); }},
      {"chroot", [](const Handed&) -> long { return ::chroot("/"); }},
      {"kill", [](const Handed&) -> long { return ::kill(kTest, 0); }},
      {"ptrace", [](const Handed&) -> long { return ::ptrace(PTRACE_ATTACH, kTest, 0, 0); }},
      {"raw socket", [](const Handed&) -> long { return ::socket(AF_INET, SOCK_RAW, IPPROTO_TCP); }},
      {"packet socket", [](const Handed&) -> long { return ::socket(AF_PACKET, SOCK_RAW, 0); }},
      {"setns", [](const Handed& fds) -> long { return ::setns(fds[0], CLONE_NEWNET); }},
      {"mark",
       [](const Handed& fds) -> long {
         const int mark = 1;
         return ::setsockopt(fds[1], SOL_SOCKET, SO_MARK, &mark, sizeof mark);
       }},
      {"load a program",
       [](const Handed&) -> long {
         bpf_attr load{};
         load.prog_type = BPF_PROG_TYPE_SCHED_CLS;
         return Bpf(BPF_PROG_LOAD, load);
       }},
  };
  const Fd netns(::open("/proc/self/ns/net", O_RDONLY));
  const Fd socket(::socket(AF_INET, SOCK_STREAM, 0));
  for (const auto& [name, attempt] : attempts) {
    const Outcome outcome = WithoutFilter(attempt, {netns.get(), socket.get()});
    EXPECT_EQ(outcome.result, -1) << name;
    EXPECT_TRUE(outcome.error == EPERM || outcome.error == EACCES) << name << ": " << std::strerror(outcome.error);
  }
}

TEST(ProxyConfinement, ASocketOfItsOwnReachesNothing) {
  const Listening listening = ListenOnLoopback();
  const auto attempt = [&](const Handed&) -> long {
    const int made = ::socket(AF_INET, SOCK_STREAM, 0);
    return ::connect(made, reinterpret_cast<const sockaddr*>(&listening.address), sizeof listening.address);
  };
  EXPECT_EQ(WithoutFilter(attempt).error, ENETUNREACH);
  EXPECT_EQ(::fcntl(listening.socket.get(), F_SETFL, O_NONBLOCK), 0);
  EXPECT_EQ(::accept(listening.socket.get(), nullptr, nullptr), -1);
}

TEST(ProxyConfinement, AMapHandedReadOnlyCannotBeWritten) {
  const Fd map = MapOfOne(BPF_F_RDONLY);
  const auto update = [](const Handed& fds) {
    const int key = 0;
    long value = 1;
    return Bpf(BPF_MAP_UPDATE_ELEM, Element(fds[0], &key, &value));
  };
  EXPECT_EQ(WithoutFilter(update, {map.get()}).error, EPERM);
}

}  // namespace
}  // namespace egress
