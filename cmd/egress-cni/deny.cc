#include "cmd/egress-cni/deny.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "bpf/cni_deny.h"
#include "cni_deny.skel.h"

namespace egress::cni {
namespace {

constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);  // linux/bpf.h of 6.6
constexpr __u32 kBefore = 1U << 3;                              // BPF_F_BEFORE: with nothing named, first in the chain

struct cni_network NetworkOf(const Prefix& prefix) {
  struct cni_network network = {};
  std::array<std::uint8_t, 16> mask{};
  for (unsigned bit = 0; bit < prefix.length; ++bit) mask[bit / 8] |= static_cast<std::uint8_t>(0x80 >> bit % 8);
  std::memcpy(network.address, prefix.address.bytes.data(), sizeof network.address);
  std::memcpy(network.mask, mask.data(), sizeof network.mask);
  network.ip4 = prefix.family == Prefix::Family::kV4;
  return network;
}

// fe80::/64 with the interface identifier that the kernel makes of the MAC (RFC 4291, appendix A).
Address LinkLocalOf(const std::array<std::uint8_t, 6>& mac) {
  Address address;
  const std::uint8_t tail[] = {
      static_cast<std::uint8_t>(mac[0] ^ 2), mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
  address.bytes[0] = 0xfe;
  address.bytes[1] = 0x80;
  std::copy(std::begin(tail), std::end(tail), address.bytes.begin() + 8);
  return address;
}

void Fill(cni_deny& deny, const Veth& veth, const Request& about, std::span<const Prefix> mesh) {
  const std::string text = about.ToText();
  if (text.size() < sizeof deny.about) text.copy(deny.about, text.size());
  for (const Prefix& prefix : mesh.first(std::min<std::size_t>(mesh.size(), EGRESS_CNI_NETWORKS))) {
    if (prefix.family == Prefix::Family::kAny) continue;
    deny.networks[deny.network_count++] = NetworkOf(prefix);
  }
  std::copy(veth.mac.begin(), veth.mac.end(), deny.pod.mac);
  std::vector<Address> own = about.addresses;
  own.insert(own.begin(), LinkLocalOf(veth.mac));
  for (const Address& address : own) {
    if (deny.pod.address_count == EGRESS_MAX_POD_ADDRESSES) break;
    std::copy(address.bytes.begin(), address.bytes.end(), deny.pod.addresses[deny.pod.address_count++]);
  }
}

Result<void> AttachClsact(int program, int ifindex) {
  LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
  const int made = bpf_tc_hook_create(&hook);
  if (made != 0 && made != -EEXIST) return ErrnoError("make a clsact qdisc", -made);
  LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program, .flags = BPF_TC_F_REPLACE, .handle = EGRESS_CNI_DENY_HANDLE,
              .priority = 1);
  const int attached = bpf_tc_attach(&hook, &options);
  if (attached != 0) return ErrnoError("attach by clsact", -attached);
  return {};
}

}  // namespace

Result<void> AttachDeny(const Veth& veth, const Request& about, std::span<const Prefix> mesh) {
  libbpf_set_print(nullptr);
  const std::unique_ptr<cni_deny_bpf, void (*)(cni_deny_bpf*)> object(cni_deny_bpf__open(), cni_deny_bpf__destroy);
  if (!object) return ErrnoError("open the BPF object");
  Fill(const_cast<cni_deny&>(reinterpret_cast<const cni_deny&>(object->rodata->deny)), veth, about, mesh);
  if (cni_deny_bpf__load(object.get()) != 0) return ErrnoError("load the BPF program");
  const int program = bpf_program__fd(object->progs.egress_cni_deny);
  LIBBPF_OPTS(bpf_prog_attach_opts, options, .flags = kBefore);
  if (::bpf_prog_attach_opts(program, veth.host_ifindex, kTcxIngress, &options) == 0) return {};
  if (errno != EINVAL) return ErrnoError("attach to " + veth.host_name + " by tcx");
  if (auto done = AttachClsact(program, veth.host_ifindex); !done) return std::move(done).error().Wrap(veth.host_name);
  return {};
}

}  // namespace egress::cni
