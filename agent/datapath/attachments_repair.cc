// Attachments: what others have done to them, found out and put right.
#include <bpf/libbpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "agent/base/link_name.h"
#include "agent/datapath/attachments.h"
#include "agent/datapath/cni_deny.h"
#include "agent/datapath/tcx.h"

namespace egress::datapath {
namespace {

// BPF_PROG_QUERY as linux/bpf.h of 6.6 has it.
struct ChainQuery {
  __u32 ifindex = 0;
  __u32 attach_type = 0;
  __u32 query_flags = 0;
  __u32 attach_flags = 0;
  __u64 programs = 0;
  __u32 count = 0;
  __u32 padding = 0;
  __u64 program_flags = 0;
  __u64 links = 0;
  __u64 link_flags = 0;
  __u64 revision = 0;
};

constexpr std::size_t kMaxChain = 64;  // BPF_MPROG_MAX

struct ChainEntry {
  __u32 program = 0;
  __u32 link = 0;  // 0: attached without one
};

// The tcx programs of an interface, in the order in which they run. False where the interface is gone.
bool Chain(int ifindex, int attach_type, std::vector<ChainEntry>& chain) {
  std::array<__u32, kMaxChain> programs{};
  std::array<__u32, kMaxChain> links{};
  ChainQuery query;
  query.ifindex = static_cast<__u32>(ifindex);
  query.attach_type = static_cast<__u32>(attach_type);
  query.programs = reinterpret_cast<__u64>(programs.data());
  query.links = reinterpret_cast<__u64>(links.data());
  query.count = kMaxChain;
  if (::syscall(SYS_bpf, BPF_PROG_QUERY, &query, sizeof query) != 0 && errno != ENOENT) return false;
  for (std::size_t i = 0; i < std::min<std::size_t>(query.count, kMaxChain) && programs[i] != 0; ++i) {
    chain.push_back({programs[i], links[i]});
  }
  return true;
}

// 0: there is no such link.
__u32 LinkId(const std::string& pin, bpf_link_info* info) {
  const Fd link(::bpf_obj_get(pin.c_str()));
  __u32 length = sizeof *info;
  if (!link || ::bpf_obj_get_info_by_fd(link.get(), info, &length) != 0) return 0;
  return info->id;
}

__u32 ProgramId(int fd) {
  bpf_prog_info info = {};
  __u32 length = sizeof info;
  return ::bpf_obj_get_info_by_fd(fd, &info, &length) == 0 ? info.id : 0;
}

constexpr const char* kDetached = " had been detached";

}  // namespace

// Empty where all is well, or the interface is gone.
std::string Attachments::Fault(const char* program, int ifindex, bool egress) {
  if (!tcx_) {
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
    LIBBPF_OPTS(bpf_tc_opts, options, .handle = kClsactHandle, .priority = 1);
    const int asked = bpf_tc_query(&hook, &options);
    if (LinkName(ifindex).empty()) return "";
    const bool ours = asked == 0 && options.prog_id == ProgramId(bpf_program__fd(kernel_.FindProgram(program)));
    return ours ? "" : kDetached;
  }
  std::vector<ChainEntry> chain;
  if (!Chain(ifindex, egress ? kTcxEgress : kTcxIngress, chain)) return "";
  __u32& first = first_links_[{ifindex, egress}];
  if (first != 0 && !chain.empty() && chain.front().link == first) return "";
  bpf_link_info info = {};
  const __u32 link = LinkId(TcPin(program, ifindex), &info);
  const auto ours = [link](const ChainEntry& entry) { return link != 0 && entry.link == link; };
  const auto at = std::find_if(chain.begin(), chain.end(), ours);
  if (at == chain.end()) return kDetached;
  // What egress-cni attached while it waited for us stands in front until it is told: it lets nothing past ours.
  const auto front = std::find_if(chain.begin(), at, [](const ChainEntry& entry) { return !IsCniDeny(entry.program); });
  if (front != at)
    return " ran only after program " + std::to_string(front->program) + ", which somebody attached before it";
  if (at == chain.begin()) first = link;
  return "";
}

// A program can be in a chain only once, so ours has to leave before it comes back in front. Meanwhile what the others let
// through meets it as a clsact filter, which runs after the chain.
Result<void> Attachments::MoveToFront(const char* program, int ifindex, bool egress) {
  if (!tcx_) return AttachClsact(program, ifindex, egress);
  const bool covered = AttachClsact(program, ifindex, egress).ok();
  if (const Fd link(::bpf_obj_get(TcPin(program, ifindex).c_str())); link) (void)::bpf_link_detach(link.get());
  auto done = AttachTcx(program, ifindex, egress ? kTcxEgress : kTcxIngress);
  if (covered && done) {
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
    LIBBPF_OPTS(bpf_tc_opts, options, .handle = kClsactHandle, .priority = 1);
    bpf_tc_detach(&hook, &options);
  }
  return done;
}

bool Attachments::SocketsAttached() const {
  return std::all_of(socket_pins_.begin(), socket_pins_.end(), [this](const std::string& name) {
    bpf_link_info info = {};
    return LinkId(LinkPath(name), &info) != 0 && info.cgroup.cgroup_id != 0;
  });
}

std::vector<std::string> Attachments::Repair() {
  std::vector<std::string> faults;
  for (const auto& [ifindex, name] : guarded_) {
    for (const bool egress : {false, true}) {
      const char* program = egress ? "to_pod" : "from_pod";
      const std::string fault = Fault(program, ifindex, egress);
      if (fault.empty()) continue;
      const auto done = MoveToFront(program, ifindex, egress);
      faults.push_back(name + ": program " + program + fault +
                       (done ? "; it is first again" : "; it cannot be put back: " + done.error().message));
    }
  }
  if (!SocketsAttached()) {
    const auto done = AttachSockets(std::vector<std::string>(cgroups_));
    faults.push_back("a socket program had been detached from its cgroup; " +
                     (done ? std::string("it is attached again") : done.error().message));
  }
  return faults;
}

}  // namespace egress::datapath
