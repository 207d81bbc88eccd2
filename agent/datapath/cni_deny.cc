#include "agent/datapath/cni_deny.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "agent/base/fd.h"
#include "bpf/cni_deny.h"

namespace egress::datapath {
namespace {

constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);  // linux/bpf.h of 6.6
constexpr std::size_t kMaxPrograms = 64;                        // the kernel's bound of a chain (BPF_MPROG_MAX)

bool IsDeny(const Fd& program) {
  bpf_prog_info info = {};
  __u32 length = sizeof info;
  return program.valid() && ::bpf_obj_get_info_by_fd(program.get(), &info, &length) == 0 &&
         std::string_view(info.name) == EGRESS_CNI_DENY_PROGRAM;
}

struct Found {
  Fd program;
  bool tcx = false;
};

Result<std::vector<Found>> OnTcx(int ifindex) {
  std::array<__u32, kMaxPrograms> ids{};
  LIBBPF_OPTS(bpf_prog_query_opts, options, .prog_ids = ids.data(), .prog_cnt = kMaxPrograms);
  std::vector<Found> all;
  if (::bpf_prog_query_opts(ifindex, kTcxIngress, &options) != 0) {
    if (errno == EINVAL || errno == ENODEV) return all;  // no tcx here, or the interface has gone
    return ErrnoError("ask for the programs of interface " + std::to_string(ifindex));
  }
  for (__u32 i = 0; i < options.prog_cnt; ++i) {
    Found found{Fd(::bpf_prog_get_fd_by_id(ids[i])), true};
    if (IsDeny(found.program)) all.push_back(std::move(found));
  }
  return all;
}

std::optional<Found> OnClsact(int ifindex) {
  LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
  LIBBPF_OPTS(bpf_tc_opts, options, .handle = EGRESS_CNI_DENY_HANDLE, .priority = 1);
  // It would complain of every interface without a clsact qdisc.
  const auto print = libbpf_set_print(nullptr);
  const int queried = bpf_tc_query(&hook, &options);
  libbpf_set_print(print);
  if (queried != 0) return std::nullopt;
  Found found{Fd(::bpf_prog_get_fd_by_id(options.prog_id)), false};
  if (!IsDeny(found.program)) return std::nullopt;
  return found;
}

Result<std::vector<Found>> On(int ifindex) {
  auto all = OnTcx(ifindex);
  if (!all) return all;
  if (auto found = OnClsact(ifindex)) all->push_back(*std::move(found));
  return all;
}

// `about` stands first in the only constant of the program, whatever version made it.
std::string AboutOf(const Fd& program) {
  std::array<__u32, 8> maps{};
  bpf_prog_info info = {};
  info.nr_map_ids = maps.size();
  info.map_ids = reinterpret_cast<__u64>(maps.data());
  __u32 length = sizeof info;
  if (::bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0) return "";
  for (__u32 i = 0; i < std::min<__u32>(info.nr_map_ids, maps.size()); ++i) {
    const Fd map(::bpf_map_get_fd_by_id(maps[i]));
    bpf_map_info map_info = {};
    length = sizeof map_info;
    if (!map || ::bpf_obj_get_info_by_fd(map.get(), &map_info, &length) != 0) continue;
    if (map_info.type != BPF_MAP_TYPE_ARRAY || map_info.value_size < EGRESS_CNI_ABOUT) continue;
    std::string value(map_info.value_size, '\0');
    const __u32 key = 0;
    if (::bpf_map_lookup_elem(map.get(), &key, value.data()) != 0) continue;
    return value.substr(0, std::min<std::size_t>(value.find('\0'), EGRESS_CNI_ABOUT));
  }
  return "";
}

}  // namespace

Result<std::vector<DeniedInterface>> FindCniDeny() {
  std::vector<DeniedInterface> denied;
  Result<void> done;
  struct if_nameindex* all = ::if_nameindex();
  if (all == nullptr) return ErrnoError("list interfaces");
  for (struct if_nameindex* link = all; link->if_index != 0 && done; ++link) {
    const int ifindex = static_cast<int>(link->if_index);
    auto found = On(ifindex);
    if (!found) {
      done = std::move(found).error();
    } else if (!found->empty()) {
      denied.push_back({ifindex, link->if_name, AboutOf(found->front().program)});
    }
  }
  ::if_freenameindex(all);
  if (!done) return std::move(done).error();
  return denied;
}

Result<bool> RemoveCniDeny(int ifindex) {
  auto all = On(ifindex);
  if (!all) return std::move(all).error();
  for (const Found& found : *all) {
    int error = 0;
    if (found.tcx) {
      error = ::bpf_prog_detach2(found.program.get(), ifindex, kTcxIngress) == 0 ? 0 : errno;
    } else {
      LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
      LIBBPF_OPTS(bpf_tc_opts, options, .handle = EGRESS_CNI_DENY_HANDLE, .priority = 1);
      error = -bpf_tc_detach(&hook, &options);
    }
    if (error != 0 && error != ENOENT && error != ENODEV) {
      return ErrnoError("take the plugin's program off interface " + std::to_string(ifindex), error);
    }
  }
  return !all->empty();
}

bool IsCniDeny(std::uint32_t program) { return IsDeny(Fd(::bpf_prog_get_fd_by_id(program))); }

}  // namespace egress::datapath
