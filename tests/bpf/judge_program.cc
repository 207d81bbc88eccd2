#include "tests/bpf/judge_program.h"

#include <bpf/bpf.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>

#include "judge_test.skel.h"
#include "tests/bpf/shared_maps.h"

namespace egress::test {

static_assert(sizeof(judge_probe) % 8 == 0, "the kernel rounds the values of an array up to 8 bytes");

Result<std::unique_ptr<JudgeProgram>> JudgeProgram::Load(const datapath::KernelObject& kernel) {
  std::unique_ptr<JudgeProgram> program(new JudgeProgram);
  program->skeleton_ = judge_test_bpf__open();
  if (program->skeleton_ == nullptr) return ErrnoError("open the test's BPF object");
  if (auto done = ShareMaps(kernel, program->skeleton_->obj); !done) return std::move(done).error();
  if (judge_test_bpf__load(program->skeleton_) != 0) return ErrnoError("load the test's BPF object");
  void* shared = ::mmap(nullptr, sizeof(judge_probe) * JUDGE_PROBES, PROT_READ | PROT_WRITE, MAP_SHARED,
                        bpf_map__fd(program->skeleton_->maps.probes), 0);
  if (shared == MAP_FAILED) return ErrnoError("mmap map probes");
  program->shared_ = static_cast<judge_probe*>(shared);
  return program;
}

JudgeProgram::~JudgeProgram() {
  if (shared_ != nullptr) ::munmap(shared_, sizeof(judge_probe) * JUDGE_PROBES);
  judge_test_bpf__destroy(skeleton_);
}

Result<void> JudgeProgram::Run(std::span<judge_probe> probes) {
  if (probes.size() > JUDGE_PROBES) return Error{"too many probes for one run"};
  std::copy(probes.begin(), probes.end(), shared_);
  skeleton_->bss->probe_count = static_cast<__u32>(probes.size());
  std::array<char, 64> frame{};  // the program does not look at it
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = frame.size());
  if (::bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.judge), &options) != 0) {
    return ErrnoError("BPF_PROG_TEST_RUN");
  }
  if (options.retval != probes.size()) return Error{"the kernel answered " + std::to_string(options.retval)};
  std::copy_n(shared_, probes.size(), probes.begin());
  return {};
}

}  // namespace egress::test
