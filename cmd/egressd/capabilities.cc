#include "cmd/egressd/capabilities.h"

#include <cap-ng.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cctype>
#include <string>

namespace egress::agent {
namespace {

struct Needed {
  unsigned capability;
  const char* why;
};

// Each with the call that fails without it. Not among them: the file capabilities (all that egressd reads and writes is
// root's), SYS_RESOURCE (the bound on descriptors is raised before), NET_RAW (it has no raw socket).
constexpr Needed kNeeded[] = {
    {CAP_BPF, "bpf(BPF_PROG_LOAD, BPF_MAP_CREATE)"},
    {CAP_PERFMON, "bpf(BPF_PROG_LOAD) of the iterator over sockets, and of programs that read the kernel's structures"},
    {CAP_NET_ADMIN, "the programs at cgroups and interfaces, GRO of a pod's interface, cutting a pod's connections"},
    {CAP_SYS_ADMIN, "setns() into a pod's network namespace, bpf(BPF_MAP_GET_FD_BY_ID), egress-proxy's own namespaces"},
    {CAP_SYS_PTRACE, "open() of /proc/PID/ns/net where a pod is known by a process"},
    {CAP_KILL, "kill() of egress-proxy, which is another user"},
    {CAP_SETUID, "setresuid() of egress-proxy"},
    {CAP_SETGID, "setresgid() and setgroups() of egress-proxy"},
    {CAP_SETPCAP, "prctl(PR_CAPBSET_DROP) of both programs"},
    {CAP_SYS_CHROOT, "chroot() of egress-proxy"},
};

std::string NameOf(unsigned capability) {
  std::string name = capng_capability_to_name(capability);
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

}  // namespace

Result<void> KeepNeededCapabilities() {
  std::string missing;
  for (const auto& [capability, why] : kNeeded) {
    if (capng_have_capability(CAPNG_EFFECTIVE, capability) == 1) continue;
    missing += (missing.empty() ? "CAP_" : "; CAP_") + NameOf(capability) + " (" + why + ")";
  }
  if (!missing.empty()) return Error{"these capabilities are missing: " + missing + ": run as root with them"};
  capng_clear(CAPNG_SELECT_ALL);
  constexpr auto kSets = static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET);
  for (const auto& [capability, why] : kNeeded) capng_update(CAPNG_ADD, kSets, capability);
  if (capng_apply(CAPNG_SELECT_ALL) != 0) return Error{"cannot drop the capabilities that are not needed"};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return ErrnoError("set no-new-privs");
  return {};
}

}  // namespace egress::agent
