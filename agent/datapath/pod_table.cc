#include "agent/datapath/pod_table.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace egress::datapath {
namespace {

constexpr std::size_t kMirrorBytes = (KernelObject::kStateStride * EGRESS_MAX_PODS + 4095) / 4096 * 4096;

policy::ObjectId ParseId(const char* text, std::size_t size) {
  const std::string name(text, ::strnlen(text, size));
  const std::size_t slash = name.find('/');
  if (slash == std::string::npos) return {"", name};
  return {name.substr(0, slash), name.substr(slash + 1)};
}

PodSpec SpecOf(std::uint64_t cookie, const struct pod& entry) {
  PodSpec spec;
  spec.cookie = cookie;
  spec.name = ParseId(entry.name, sizeof entry.name);
  spec.service_account = ParseId(entry.service_account, sizeof entry.service_account);
  spec.host_ifindex = static_cast<int>(entry.ifindex);
  spec.netns_id = entry.netns_id;
  std::copy(std::begin(entry.mac), std::end(entry.mac), spec.mac.begin());
  for (int i = 0; i < std::min<int>(entry.address_count, EGRESS_MAX_POD_ADDRESSES); ++i) {
    Address& address = spec.addresses.emplace_back();
    std::copy(std::begin(entry.addresses[i]), std::end(entry.addresses[i]), address.bytes.begin());
  }
  return spec;
}

}  // namespace

PodTable::PodTable(const KernelObject& kernel)
    : kernel_(kernel),
      pods_map_(kernel.Map<std::uint64_t, struct pod>("pods")),
      interfaces_map_(kernel.Map<std::uint32_t, std::uint64_t>("interfaces")),
      inbound_map_(kernel.Map<std::uint64_t, int>("inbound")) {
  pods_map_.ForEachKey([&](std::uint64_t cookie) {
    const auto entry = pods_map_.Get(cookie);
    if (!entry || entry->slot >= EGRESS_MAX_PODS) return;
    pods_[cookie] = {entry->slot, SpecOf(cookie, *entry), {}, false};
    slots_.insert(entry->slot);
  });
}

Result<std::unique_ptr<PodTable>> PodTable::Open(const KernelObject& kernel) {
  std::unique_ptr<PodTable> table(new PodTable(kernel));
  if (auto done = table->MakeMirror(); !done) return std::move(done).error().Wrap("share the states with the proxy");
  return table;
}

PodTable::~PodTable() {
  if (mirrored_ != nullptr) ::munmap(mirrored_, kMirrorBytes);
}

Result<void> PodTable::MakeMirror() {
  mirror_.Reset(::memfd_create("egressd-states", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!mirror_) return ErrnoError("memfd_create");
  if (::ftruncate(mirror_.get(), kMirrorBytes) != 0) return ErrnoError("ftruncate");
  void* memory = ::mmap(nullptr, kMirrorBytes, PROT_READ | PROT_WRITE, MAP_SHARED, mirror_.get(), 0);
  if (memory == MAP_FAILED) return ErrnoError("mmap");
  mirrored_ = static_cast<char*>(memory);
  // From here on only the mapping above writes.
  if (::fcntl(mirror_.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0) {
    return ErrnoError("seal");
  }
  for (const std::uint32_t slot : slots_) {
    std::memcpy(mirrored_ + slot * KernelObject::kStateStride, kernel_.State(slot), sizeof(pod_state));
  }
  return {};
}

void PodTable::StoreWord(std::uint32_t slot, std::uint64_t word) {
  auto* mirrored = reinterpret_cast<std::uint64_t*>(mirrored_ + slot * KernelObject::kStateStride);
  __atomic_store_n(mirrored, word, __ATOMIC_RELEASE);
  __atomic_store_n(reinterpret_cast<std::uint64_t*>(kernel_.State(slot)), word, __ATOMIC_RELEASE);
}

Result<std::uint32_t> PodTable::FreeSlot() const {
  for (std::uint32_t slot = 0; slot < EGRESS_MAX_PODS; ++slot) {
    if (!slots_.contains(slot)) return slot;
  }
  return Error{"more than " + std::to_string(EGRESS_MAX_PODS) + " governed pods on this node"};
}

void PodTable::MakeInboundRecords(std::span<const std::uint64_t> cookies) {
  std::vector<std::uint64_t> keys;
  std::vector<int> values;
  std::vector<Fd> owners;
  for (const std::uint64_t cookie : cookies) {
    int inner = -1;
    if (::bpf_map_lookup_elem(inbound_map_.fd(), &cookie, &inner) == 0) continue;
    auto records = kernel_.MakeInboundMap();
    if (!records) return;
    keys.push_back(cookie);
    values.push_back(records->get());
    owners.push_back(*std::move(records));
  }
  auto count = static_cast<__u32>(keys.size());
  if (count > 0) (void)::bpf_map_update_batch(inbound_map_.fd(), keys.data(), values.data(), &count, nullptr);
}

Result<void> PodTable::Set(const PodSpec& pod, std::uint32_t generation, const PodMode& mode) {
  const auto known = pods_.find(pod.cookie);
  Entry entry = known != pods_.end() ? known->second : Entry{};
  const int old_ifindex = entry.spec.host_ifindex;
  if (known == pods_.end()) {
    auto slot = FreeSlot();
    if (!slot) return std::move(slot).error();
    entry.slot = *slot;
  }
  const bool first = !entry.ours;
  entry.spec = pod;
  entry.ours = true;
  pod_state* state = kernel_.State(entry.slot);
  state->ifindex = static_cast<__u32>(pod.host_ifindex);
  std::copy(pod.mac.begin(), pod.mac.end(), state->mac);
  slots_.insert(entry.slot);
  pods_[pod.cookie] = entry;
  // The state before the pod: a pod without one would not count as governed.
  if (first && known == pods_.end()) Switch(pod.cookie, generation, mode);
  int inner = -1;
  if (::bpf_map_lookup_elem(inbound_map_.fd(), &pod.cookie, &inner) != 0) {
    const auto records = kernel_.MakeInboundMap();
    if (!records) return records.error();
    if (auto done = inbound_map_.Set(pod.cookie, records->get()); !done) return done;
  }
  if (auto done = Write(entry); !done) return done;
  if (old_ifindex != 0 && old_ifindex != pod.host_ifindex) {
    (void)interfaces_map_.Delete(static_cast<std::uint32_t>(old_ifindex));
  }
  if (pod.host_ifindex == 0) return {};
  return interfaces_map_.Set(static_cast<std::uint32_t>(pod.host_ifindex), pod.cookie);
}

Result<void> PodTable::Write(const Entry& entry) {
  struct pod value = {};
  value.slot = entry.slot;
  value.ifindex = static_cast<__u32>(entry.spec.host_ifindex);
  value.netns_id = entry.spec.netns_id;
  std::copy(entry.spec.mac.begin(), entry.spec.mac.end(), value.mac);
  for (const Address& address : entry.spec.addresses) {
    if (value.address_count >= EGRESS_MAX_POD_ADDRESSES) break;  // the rest is not the pod's: denied as a source
    std::copy(address.bytes.begin(), address.bytes.end(), value.addresses[value.address_count++]);
  }
  value.proxy_port4 = htons(entry.proxy.port4);
  value.proxy_port6 = htons(entry.proxy.port6);
  std::copy(entry.proxy.address4.bytes.begin(), entry.proxy.address4.bytes.end(), value.proxy_address4);
  std::copy(entry.proxy.address6.bytes.begin(), entry.proxy.address6.bytes.end(), value.proxy_address6);
  entry.spec.name.ToString().copy(value.name, sizeof value.name - 1);
  entry.spec.service_account.ToString().copy(value.service_account, sizeof value.service_account - 1);
  return pods_map_.Set(entry.spec.cookie, value);
}

void PodTable::Switch(std::uint64_t cookie, std::uint32_t generation, const PodMode& mode) {
  const auto known = pods_.find(cookie);
  if (known == pods_.end()) return;
  pod_state next = {};
  next.generation = generation;
  next.ruleset = mode.ruleset;
  next.governed = 1;
  next.open = mode.open;
  next.audit = mode.audit;
  next.unguarded = mode.unguarded;
  std::uint64_t word = 0;
  std::memcpy(&word, &next, sizeof word);
  StoreWord(known->second.slot, word);
}

Result<void> PodTable::SetProxy(std::uint64_t cookie, const ProxyListeners& listeners) {
  const auto known = pods_.find(cookie);
  if (known == pods_.end()) return Error{"no such pod"};
  known->second.proxy = listeners;
  return Write(known->second);
}

Result<void> PodTable::RecordInbound(std::uint64_t cookie, const std::vector<InboundFlow>& flows) {
  int id = -1;
  if (::bpf_map_lookup_elem(inbound_map_.fd(), &cookie, &id) != 0) return ErrnoError("find the inbound records");
  const Fd fd(::bpf_map_get_fd_by_id(static_cast<__u32>(id)));
  if (!fd) return ErrnoError("open the inbound records");
  const BpfMap<inbound_key, struct inbound> records(fd.get(), "inbound");
  for (const InboundFlow& flow : flows) {
    inbound_key key = {};
    std::copy(flow.local.bytes.begin(), flow.local.bytes.end(), key.local);
    std::copy(flow.remote.bytes.begin(), flow.remote.bytes.end(), key.remote);
    key.local_port = htons(flow.local_port);
    key.remote_port = htons(flow.remote_port);
    key.protocol = IPPROTO_TCP;
    if (auto done = records.Set(key, {}); !done) return done;
  }
  return {};
}

void PodTable::Remove(std::uint64_t cookie) {
  const auto known = pods_.find(cookie);
  if (known == pods_.end()) return;
  const Entry& entry = known->second;
  (void)interfaces_map_.Delete(static_cast<std::uint32_t>(entry.spec.host_ifindex));
  (void)pods_map_.Delete(cookie);
  (void)inbound_map_.Delete(cookie);
  StoreWord(entry.slot, 0);
  const auto stats = kernel_.Map<stat_key, std::uint64_t>("stats");
  stats.ForEachKey([&](const stat_key& key) {
    if (key.slot == entry.slot) (void)stats.Delete(key);
  });
  const auto connections = kernel_.Map<connection_key, std::uint32_t>("connections");
  connections.ForEachKey([&](const connection_key& key) {
    if (key.slot == entry.slot) (void)connections.Delete(key);
  });
  (void)kernel_.Map<std::uint32_t, usage>("usage").Set(entry.slot, {});
  slots_.erase(entry.slot);
  pods_.erase(known);
}

std::optional<std::uint32_t> PodTable::SlotOf(std::uint64_t cookie) const {
  const auto known = pods_.find(cookie);
  if (known == pods_.end()) return std::nullopt;
  return known->second.slot;
}

std::vector<PodSpec> PodTable::Leftovers() const {
  std::vector<PodSpec> left;
  for (const auto& [cookie, entry] : pods_) {
    if (!entry.ours) left.push_back(entry.spec);
  }
  return left;
}

}  // namespace egress::datapath
