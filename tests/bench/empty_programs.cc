// bench_empty_programs CGROUP INTERFACE: attaches programs that do nothing beside those of egressd, switches on the
// kernel's run time statistics, prints the ids of the programs, and stays until its standard input ends.
//
// Both the links and the statistics belong to descriptors of this process, so nothing outlives it.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <net/if.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "agent/base/fd.h"
#include "bench_empty.skel.h"

namespace {

constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);  // libbpf 1.1 does not name it

int Fail(const char* what) {
  std::fprintf(stderr, "bench_empty_programs: %s: %s\n", what, std::strerror(errno));
  return 1;
}

unsigned IdOf(const bpf_program* program) {
  bpf_prog_info info = {};
  __u32 size = sizeof info;
  return ::bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0 ? info.id : 0;
}

int Run(const char* cgroup_path, const char* interface) {
  const egress::Fd statistics(::bpf_enable_stats(BPF_STATS_RUN_TIME));
  if (!statistics) return Fail("switch on run time statistics");
  const egress::Fd cgroup(::open(cgroup_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup) return Fail(cgroup_path);
  const int ifindex = static_cast<int>(::if_nametoindex(interface));
  if (ifindex == 0) return Fail(interface);
  bench_empty_bpf* programs = bench_empty_bpf::open_and_load();
  if (programs == nullptr) return Fail("load the programs");
  const egress::Fd ingress(
      ::bpf_link_create(bpf_program__fd(programs->progs.empty_frame), ifindex, kTcxIngress, nullptr));
  const egress::Fd connect(::bpf_link_create(bpf_program__fd(programs->progs.empty_connect), cgroup.get(),
                                             BPF_CGROUP_INET4_CONNECT, nullptr));
  if (!ingress || !connect) return Fail("attach the programs (needs Linux 6.6)");
  std::printf("{\"frame\": %u, \"connect\": %u}\n", IdOf(programs->progs.empty_frame),
              IdOf(programs->progs.empty_connect));
  std::fflush(stdout);
  char byte;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  bench_empty_bpf::destroy(programs);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "bench_empty_programs CGROUP INTERFACE\n");
    return 2;
  }
  return Run(argv[1], argv[2]);
}
