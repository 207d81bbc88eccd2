#include "agent/datapath/attachments.h"

#include <bpf/libbpf.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "agent/datapath/tcx.h"

namespace egress::datapath {
namespace {

constexpr const char* kSocketPrograms[] = {"connect4",     "connect6",   "sendmsg4",   "sendmsg6", "getpeername4",
                                           "getpeername6", "tcp_events", "skb_egress", "release"};

}  // namespace

Result<void> Attachments::AttachSockets(const std::vector<std::string>& cgroups) {
  std::error_code error;
  std::filesystem::create_directories(LinkPath(""), error);
  if (error) return Error{"make " + LinkPath("") + ": " + error.message()};
  std::set<std::string> wanted;
  for (std::size_t i = 0; i < cgroups.size(); ++i) {
    for (const char* program : kSocketPrograms) {
      const std::string name = std::string(program) + (i == 0 ? "" : "-agent");
      wanted.insert(name);
      if (auto done = AttachToCgroup(program, cgroups[i], LinkPath(name)); !done) {
        return std::move(done).error().Wrap("attach " + std::string(program) + " to " + cgroups[i]);
      }
    }
  }
  for (const char* program : kSocketPrograms) {  // of an agent that lived elsewhere
    if (const std::string name = std::string(program) + "-agent"; !wanted.contains(name)) {
      ::unlink(LinkPath(name).c_str());
    }
  }
  cgroups_ = cgroups;
  socket_pins_ = std::move(wanted);
  return {};
}

// Replaces the program of the pinned link, if that is a link to this very cgroup.
Result<bool> Attachments::UpdatePinned(const char* program, const std::string& pin, std::uint64_t cgroup_id) {
  const Fd link(::bpf_obj_get(pin.c_str()));
  if (!link) return false;
  bpf_link_info info = {};
  __u32 length = sizeof info;
  if (::bpf_obj_get_info_by_fd(link.get(), &info, &length) != 0) return ErrnoError("look at link " + pin);
  if (cgroup_id != 0 && info.cgroup.cgroup_id != cgroup_id) return false;
  if (::bpf_link_update(link.get(), bpf_program__fd(kernel_.FindProgram(program)), nullptr) == 0) return true;
  if (errno == ENOLINK) return false;  // its interface or cgroup is gone
  return ErrnoError("replace the program of link " + pin);
}

Result<void> Attachments::AttachToCgroup(const char* program, const std::string& cgroup, const std::string& pin) {
  const Fd directory(::open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return ErrnoError("open");
  struct stat identity = {};
  if (::fstat(directory.get(), &identity) != 0) return ErrnoError("stat");
  auto updated = UpdatePinned(program, pin, identity.st_ino);  // a cgroup's id is its inode number
  if (!updated) return std::move(updated).error();
  if (*updated) return {};
  bpf_link* link = bpf_program__attach_cgroup(kernel_.FindProgram(program), directory.get());
  if (link == nullptr) return ErrnoError("link");
  ::unlink(pin.c_str());
  const bool pinned = bpf_link__pin(link, pin.c_str()) == 0;
  const int error = errno;
  bpf_link__disconnect(link);
  bpf_link__destroy(link);
  if (!pinned) return ErrnoError("pin " + pin, error);
  return {};
}

Result<void> Attachments::Guard(int host_ifindex, const std::string& host_name) {
  if (guarded_.contains(host_ifindex)) return {};
  std::error_code error;
  std::filesystem::create_directories(LinkPath(""), error);
  Result<void> done;
  if (tcx_) {
    done = AttachTcx("from_pod", host_ifindex, kTcxIngress);
    if (done) done = AttachTcx("to_pod", host_ifindex, kTcxEgress);
    if (!done && errno == EINVAL) tcx_ = false;
  }
  if (!tcx_) {
    done = AttachClsact("from_pod", host_ifindex, false);
    if (done) done = AttachClsact("to_pod", host_ifindex, true);
  }
  if (!done) return std::move(done).error().Wrap("guard " + host_name);
  guarded_[host_ifindex] = host_name;
  return {};
}

Result<void> Attachments::AttachTcx(const char* program, int ifindex, int attach_type) {
  const std::string pin = TcPin(program, ifindex);
  auto updated = UpdatePinned(program, pin, 0);
  if (!updated) return std::move(updated).error();
  if (*updated) return {};
  ::unlink(pin.c_str());
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = kBefore);
  const Fd link(::bpf_link_create(bpf_program__fd(kernel_.FindProgram(program)), ifindex,
                                  static_cast<bpf_attach_type>(attach_type), &options));
  if (!link) return ErrnoError("attach " + std::string(program) + " by tcx");
  if (::bpf_obj_pin(link.get(), pin.c_str()) != 0) return ErrnoError("pin " + pin);
  return {};
}

Result<void> Attachments::AttachClsact(const char* program, int ifindex, bool egress) {
  LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
  const int made = bpf_tc_hook_create(&hook);
  if (made != 0 && made != -EEXIST) return ErrnoError("make a clsact qdisc", -made);
  LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = bpf_program__fd(kernel_.FindProgram(program)), .flags = BPF_TC_F_REPLACE,
              .handle = kClsactHandle, .priority = 1);
  const int attached = bpf_tc_attach(&hook, &options);
  if (attached != 0) return ErrnoError("attach " + std::string(program) + " by clsact", -attached);
  return {};
}

void Attachments::Unguard(int host_ifindex) {
  for (const char* program : {"from_pod", "to_pod"}) {
    const std::string pin = TcPin(program, host_ifindex);
    // The kernel takes a link down some time after its pin has gone, and the program drops what comes from no pod.
    if (const Fd link(::bpf_obj_get(pin.c_str())); link) (void)::bpf_link_detach(link.get());
    ::unlink(pin.c_str());
    if (tcx_) continue;
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = host_ifindex,
                .attach_point = std::strcmp(program, "to_pod") == 0 ? BPF_TC_EGRESS : BPF_TC_INGRESS);
    LIBBPF_OPTS(bpf_tc_opts, options, .handle = kClsactHandle, .priority = 1);
    bpf_tc_detach(&hook, &options);
  }
  guarded_.erase(host_ifindex);
  first_links_.erase({host_ifindex, false});
  first_links_.erase({host_ifindex, true});
}

void Attachments::SweepForeign() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(LinkPath(""), error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("tc-")) continue;
    if (!guarded_.contains(std::atoi(name.c_str() + 3))) ::unlink(entry.path().c_str());
  }
}

std::vector<std::pair<std::string, std::string>> Attachments::List() const {
  std::vector<std::pair<std::string, std::string>> list;
  for (const std::string& cgroup : cgroups_) {
    for (const char* program : kSocketPrograms) list.emplace_back(program, cgroup);
  }
  for (const auto& [ifindex, name] : guarded_) {
    list.emplace_back("from_pod", name);
    list.emplace_back("to_pod", name);
  }
  return list;
}

void RemoveClsactFilters() {
  // It would complain of every interface without a clsact qdisc.
  const auto print = libbpf_set_print(nullptr);
  struct if_nameindex* all = ::if_nameindex();
  for (struct if_nameindex* link = all; link != nullptr && link->if_index != 0; ++link) {
    for (const auto point : {BPF_TC_INGRESS, BPF_TC_EGRESS}) {
      LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(link->if_index), .attach_point = point);
      LIBBPF_OPTS(bpf_tc_opts, options, .handle = kClsactHandle, .priority = 1);
      bpf_tc_detach(&hook, &options);
    }
  }
  if (all != nullptr) ::if_freenameindex(all);
  libbpf_set_print(print);
}

}  // namespace egress::datapath
