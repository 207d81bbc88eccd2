#include "agent/datapath/pinned_view.h"

#include <algorithm>
#include <map>
#include <set>

#include "agent/datapath/pinned_map.h"
#include "agent/datapath/pinned_routes.h"

namespace egress::datapath {

namespace {

// How often a view is read again when a change comes in between. One reading takes milliseconds.
constexpr int kAttempts = 10;

// Bounded, since what another version has pinned here need not end in NUL.
template <std::size_t kSize>
std::string Text(const char (&text)[kSize]) {
  return {text, ::strnlen(text, kSize)};
}

// The word of `states` that switches with policy.
bool SameWord(const pod_state& a, const pod_state& b) {
  return a.generation == b.generation && a.ruleset == b.ruleset && a.governed == b.governed && a.open == b.open &&
         a.audit == b.audit && a.unguarded == b.unguarded;
}

struct MapSizes {
  const char* name;
  std::uint32_t key;
  std::uint32_t value;
};

// Maps whose fill is worth knowing. `stats` holds a counter for each CPU, but its value is one of them.
constexpr MapSizes kCounted[] = {
    {"pods", sizeof(std::uint64_t), sizeof(struct pod)},
    {"interfaces", sizeof(std::uint32_t), sizeof(std::uint64_t)},
    {"rules", sizeof(rule_key), sizeof(rule)},
    {"classes", sizeof(std::uint32_t), sizeof(rule_class)},
    {"hosts", sizeof(host_key), sizeof(host)},
    {"policies", sizeof(std::uint32_t), sizeof(struct policy)},
    {"connections", sizeof(connection_key), sizeof(std::uint32_t)},
    {"networks", sizeof(network_key), sizeof(network)},
    {"ports", sizeof(__be16), sizeof(network)},
    {"routes", sizeof(route_key), sizeof(route)},
};

}  // namespace

std::string PinnedPod::name() const { return Text(pod.name); }
std::string PinnedPod::service_account() const { return Text(pod.service_account); }

std::vector<Address> PinnedPod::addresses() const {
  std::vector<Address> result;
  for (int i = 0; i < std::min<int>(pod.address_count, EGRESS_MAX_POD_ADDRESSES); ++i) {
    Address& address = result.emplace_back();
    std::copy(std::begin(pod.addresses[i]), std::end(pod.addresses[i]), address.bytes.begin());
  }
  return result;
}

struct PinnedView::Impl {
  std::string folder;
  PinnedMap pods;
  PinnedMap states;
  PinnedMap config;
  PinnedMap networks;
  PinnedMap ports;
  PinnedMap routes;

  Result<std::optional<PinnedPod>> WithState(std::uint64_t cookie, const struct pod& pod) const;
  Result<std::vector<PinnedPod>> AllPods() const;
  Result<egress_config> ReadConfig() const;
  Result<std::vector<PodPolicy>> PoliciesOf(std::vector<PinnedPod> wanted) const;
  Result<bool> Unchanged(const std::vector<PinnedPod>& pods_read) const;
  template <typename Wanted>
  Result<std::vector<PodPolicy>> Settled(Wanted wanted) const;
};

// nullopt: the slot is free, so the pod comes or goes just now.
Result<std::optional<PinnedPod>> PinnedView::Impl::WithState(std::uint64_t cookie, const struct pod& pod) const {
  const auto state = states.Lookup<std::uint32_t, pod_state>(pod.slot);
  if (!state) return state.error();
  if (!state->has_value() || (*state)->governed == 0) return std::optional<PinnedPod>();
  return std::optional<PinnedPod>({cookie, pod, **state});
}

Result<std::vector<PinnedPod>> PinnedView::Impl::AllPods() const {
  const auto entries = pods.Entries<std::uint64_t, struct pod>();
  if (!entries) return entries.error();
  std::vector<PinnedPod> result;
  for (const auto& [cookie, pod] : *entries) {
    auto read = WithState(cookie, pod);
    if (!read) return std::move(read).error();
    if (*read) result.push_back(**read);
  }
  std::sort(result.begin(), result.end(), [](const PinnedPod& a, const PinnedPod& b) { return a.name() < b.name(); });
  return result;
}

Result<egress_config> PinnedView::Impl::ReadConfig() const {
  const auto value = config.Lookup<std::uint32_t, egress_config>(0);
  if (!value) return value.error();
  return value->value_or(egress_config{});
}

// Whether the pods are still under the generation at which `pods_read` were read.
Result<bool> PinnedView::Impl::Unchanged(const std::vector<PinnedPod>& pods_read) const {
  for (const PinnedPod& pod : pods_read) {
    const auto now = states.Lookup<std::uint32_t, pod_state>(pod.pod.slot);
    if (!now) return now.error();
    if (!now->has_value() || !SameWord(pod.state, **now)) return false;
  }
  return true;
}

Result<std::vector<PodPolicy>> PinnedView::Impl::PoliciesOf(std::vector<PinnedPod> wanted) const {
  const auto chunks = routes.Entries<route_key, route>();
  if (!chunks) return chunks.error();
  const auto network_entries = networks.Entries<network_key, network>();
  if (!network_entries) return network_entries.error();
  const auto port_entries = ports.Entries<__be16, network>();
  if (!port_entries) return port_entries.error();
  const auto settings = ReadConfig();
  if (!settings) return settings.error();

  std::set<std::uint32_t> generations;
  for (const PinnedPod& pod : wanted) generations.insert(pod.state.generation);
  const auto documents = ReadDocuments(*chunks, generations);
  if (!documents) return documents.error();

  std::vector<PodPolicy> result;
  for (PinnedPod& pod : wanted) {
    const std::uint32_t generation = pod.state.generation;
    PodPolicy& view = result.emplace_back();
    view.network = NetworkPolicyAt(generation, *network_entries, *port_entries);
    view.network.open = pod.state.open != 0;
    view.network.audit = pod.state.audit != 0;
    view.network.other_protocols_allowed = settings->other_protocols != 0;
    if (pod.state.ruleset != 0 && pod.state.unguarded == 0) {
      view.policies = documents->InForce(generation, pod.service_account());
    }
    if (pod.state.unguarded != 0) RestrictToMesh(view.network);
    view.pod = pod;
  }
  return result;
}

// What `wanted` names, read again until no change has come in between.
template <typename Wanted>
Result<std::vector<PodPolicy>> PinnedView::Impl::Settled(Wanted wanted) const {
  Error last{"the policies in " + folder + " change faster than they can be read: try again"};
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    auto all = AllPods();
    if (!all) return std::move(all).error();
    std::erase_if(*all, [&](const PinnedPod& pod) { return !wanted(pod); });
    auto policies = PoliciesOf(*all);
    const auto unchanged = Unchanged(*all);
    if (!unchanged) return unchanged.error();
    if (*unchanged && policies) return policies;
    if (*unchanged) last = std::move(policies).error();
  }
  return last;
}

PinnedView::PinnedView(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Result<PinnedView> PinnedView::Open(const std::string& bpffs) {
  const auto open = [&](const char* name, std::size_t key, std::size_t value) {
    return PinnedMap::Open(bpffs, name, static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(value));
  };
  auto pods = open("pods", sizeof(std::uint64_t), sizeof(struct pod));
  if (!pods) return std::move(pods).error();
  auto states = open("states", sizeof(std::uint32_t), sizeof(pod_state));
  if (!states) return std::move(states).error();
  auto config = open("config", sizeof(std::uint32_t), sizeof(egress_config));
  if (!config) return std::move(config).error();
  auto networks = open("networks", sizeof(network_key), sizeof(network));
  if (!networks) return std::move(networks).error();
  auto ports = open("ports", sizeof(__be16), sizeof(network));
  if (!ports) return std::move(ports).error();
  auto routes = open("routes", sizeof(route_key), sizeof(route));
  if (!routes) return std::move(routes).error();
  return PinnedView(std::make_shared<const Impl>(Impl{bpffs, *std::move(pods), *std::move(states), *std::move(config),
                                                      *std::move(networks), *std::move(ports), *std::move(routes)}));
}

Result<std::vector<PinnedPod>> PinnedView::Pods() const { return impl_->AllPods(); }

Result<std::optional<PodPolicy>> PinnedView::PolicyOf(const std::string& pod) const {
  auto found = impl_->Settled([&](const PinnedPod& candidate) { return candidate.name() == pod; });
  if (!found) return std::move(found).error();
  if (found->empty()) return std::optional<PodPolicy>();
  return std::optional<PodPolicy>(std::move(found->front()));
}

Result<std::vector<PodPolicy>> PinnedView::Policies() const {
  return impl_->Settled([](const PinnedPod&) { return true; });
}

Result<egress_config> PinnedView::Config() const { return impl_->ReadConfig(); }

std::vector<PinnedMapUse> PinnedView::MapUse() const {
  std::vector<PinnedMapUse> result;
  for (const MapSizes& sizes : kCounted) {
    const auto map = PinnedMap::Open(impl_->folder, sizes.name, sizes.key, sizes.value);
    if (!map) continue;
    const auto count = map->Count();
    if (count) result.push_back({sizes.name, *count, map->capacity()});
  }
  return result;
}

}  // namespace egress::datapath
