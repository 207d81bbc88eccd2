// What attaching to tc needs and libbpf 1.1 does not name.
#pragma once

#include <linux/types.h>

namespace egress::datapath {

// From linux/bpf.h of 6.6; libbpf 1.1 does not know tcx but passes the numbers on.
constexpr auto kTcxIngress = 46;
constexpr auto kTcxEgress = 47;
constexpr __u32 kBefore = 1U << 3;  // BPF_F_BEFORE: with nothing named, first in the chain

constexpr __u32 kClsactHandle = 0xe9;  // of the clsact filters, so that they are told from others

}  // namespace egress::datapath
