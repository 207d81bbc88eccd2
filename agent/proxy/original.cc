#include "agent/proxy/original.h"

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

namespace egress::proxy {

OriginalLookup LookupIn(int map_fd) {
  return [map_fd](int fd) -> std::optional<socket_verdict> {
    socket_verdict verdict{};
    bpf_attr attributes;
    std::memset(&attributes, 0, sizeof attributes);
    attributes.map_fd = static_cast<__u32>(map_fd);
    attributes.key = reinterpret_cast<__u64>(&fd);
    attributes.value = reinterpret_cast<__u64>(&verdict);
    if (::syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &attributes, sizeof attributes) != 0) return std::nullopt;
    return verdict;
  };
}

}  // namespace egress::proxy
