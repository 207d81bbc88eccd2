// A test-only BPF object that works on the maps of the product's.
#pragma once

#include <bpf/libbpf.h>

#include <string>

#include "agent/datapath/kernel_object.h"

namespace egress::test {

// To be called between opening and loading `object`: each of its maps that the product has too becomes the product's.
inline Result<void> ShareMaps(const datapath::KernelObject& kernel, bpf_object* object) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const int fd = kernel.MapFd(bpf_map__name(map));
    if (fd >= 0 && bpf_map__reuse_fd(map, fd) != 0) {
      return ErrnoError("share map " + std::string(bpf_map__name(map)));
    }
  }
  return {};
}

}  // namespace egress::test
