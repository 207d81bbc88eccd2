// JudgeProgram: the test-only program judge_test.bpf.c, loaded on the maps of a KernelObject.
#pragma once

#include <memory>
#include <span>

#include "agent/datapath/kernel_object.h"
#include "tests/bpf/judge_probe.h"

struct judge_test_bpf;

namespace egress::test {

class JudgeProgram {
 public:
  static Result<std::unique_ptr<JudgeProgram>> Load(const datapath::KernelObject& kernel);
  ~JudgeProgram();
  JudgeProgram(const JudgeProgram&) = delete;
  JudgeProgram& operator=(const JudgeProgram&) = delete;

  // Has the kernel answer `probes`, in place; at most JUDGE_PROBES.
  Result<void> Run(std::span<judge_probe> probes);

 private:
  JudgeProgram() = default;
  judge_test_bpf* skeleton_ = nullptr;
  judge_probe* shared_ = nullptr;  // mmapped
};

}  // namespace egress::test
