#include "agent/policy/compile.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

#include "agent/policy/group_merge.h"
#include "agent/policy/rank.h"
#include "bpf/egress.h"

namespace egress::policy {
namespace {

// What one policy says about one prefix and port.
struct Item {
  Prefix prefix;
  std::uint8_t protocol = 0;
  const EffectivePolicy* policy = nullptr;
  std::uint32_t group = 0;  // https: index into the groups of the port
};

// Prefixes in the order of a walk down the tree: a prefix comes right before those that it covers.
struct WalkOrder {
  bool operator()(const Prefix& a, const Prefix& b) const {
    return std::tie(a.family, a.address, a.length) < std::tie(b.family, b.address, b.length);
  }
};

// All that holds at one prefix: what it says itself and what the prefixes around it say.
struct State {
  std::vector<const EffectivePolicy*> tcp;  // best first, at most EGRESS_MAX_TCP_POLICIES
  const EffectivePolicy* http = nullptr;
  bool https = false;
  std::vector<std::uint32_t> groups;  // sorted indexes into the groups of the port, at most EGRESS_MAX_GROUPS
  bool operator==(const State&) const = default;
};

// A prefix and the index of its state.
struct Visited {
  Prefix prefix;
  std::uint32_t state = 0;
};

void AddTcp(const EffectivePolicy* policy, std::vector<const EffectivePolicy*>* tcp) {
  const auto at = std::lower_bound(tcp->begin(), tcp->end(), policy,
                                   [](const auto* a, const auto* b) { return PreferredOver(*a, *b); });
  if (at != tcp->end() && *at == policy) return;
  tcp->insert(at, policy);
  // One without a limit makes counting pointless; of the limited ones the widest are kept.
  const std::size_t most = tcp->front()->limits.max_connections ? EGRESS_MAX_TCP_POLICIES : 1;
  if (tcp->size() > most) tcp->resize(most);
}

class PortCompiler {
 public:
  PortCompiler(std::uint16_t port, RuleSet* rules, std::map<RuleClass, std::uint32_t>* classes)
      : port_(port), rules_(*rules), classes_(*classes) {}

  void Add(const EffectivePolicy& policy, Protocol protocol) {
    Item item{{}, 0, &policy, 0};
    switch (protocol) {
      case Protocol::kHttp: item.protocol = EGRESS_HTTP; break;
      case Protocol::kHttps: item.protocol = EGRESS_HTTPS; break;
      case Protocol::kTcp:
      case Protocol::kTcpServerFirst: item.protocol = EGRESS_TCP; break;
    }
    if (item.protocol == EGRESS_HTTPS) item.group = groups_.Add(policy);
    for (const Prefix& prefix : policy.cidrs) {
      item.prefix = prefix;
      items_.push_back(item);
    }
  }

  void Run() {
    std::stable_sort(items_.begin(), items_.end(),
                     [](const Item& a, const Item& b) { return WalkOrder()(a.prefix, b.prefix); });
    groups_.SortNames();
    for (std::size_t from = 0; from < items_.size();) {
      std::size_t to = from;
      while (to < items_.size() && items_[to].prefix == items_[from].prefix) ++to;
      Visit(std::span(items_).subspan(from, to - from));
      from = to;
    }
    Emit();
  }

 private:
  void Visit(std::span<const Item> items) {
    const Prefix& prefix = items.front().prefix;
    while (!enclosing_.empty() && !enclosing_.back().prefix.Contains(prefix)) enclosing_.pop_back();
    State state = enclosing_.empty() ? State() : states_[enclosing_.back().state];
    std::vector<std::uint32_t> own;
    for (const Item& item : items) {
      switch (item.protocol) {
        case EGRESS_TCP: AddTcp(item.policy, &state.tcp); break;
        case EGRESS_HTTP:
          if (state.http == nullptr || item.policy->id < state.http->id) state.http = item.policy;
          break;
        default: state.https = true; own.push_back(item.group);
      }
    }
    if (!own.empty()) state.groups = groups_.Join(state.groups, std::move(own));
    // Neighbours mostly are alike: a list of many CIDRs is one state.
    if (states_.empty() || states_.back() != state) states_.push_back(std::move(state));
    const Visited visited{prefix, static_cast<std::uint32_t>(states_.size() - 1)};
    visited_.push_back(visited);
    enclosing_.push_back(visited);
  }

  // Groups that no class refers to (all of it has been merged) stay out of the kernel's maps.
  void Emit() {
    std::set<std::uint32_t> used;
    for (const State& state : states_) used.insert(state.groups.begin(), state.groups.end());
    std::vector<std::uint32_t> order(used.begin(), used.end());
    std::sort(order.begin(), order.end(),
              [&](std::uint32_t a, std::uint32_t b) { return groups_.Identity(a) < groups_.Identity(b); });
    std::unordered_map<std::uint32_t, std::uint32_t> index;
    for (const std::uint32_t group : order) {
      index[group] = static_cast<std::uint32_t>(rules_.groups.size());
      rules_.groups.push_back(groups_.Make(group, port_));
    }
    std::vector<std::uint32_t> classes;
    for (const State& state : states_) classes.push_back(ClassOf(state, index));
    std::sort(visited_.begin(), visited_.end(), [](const Visited& a, const Visited& b) { return a.prefix < b.prefix; });
    for (const Visited& visited : visited_) rules_.rules.push_back({port_, visited.prefix, classes[visited.state]});
  }

  std::uint32_t ClassOf(const State& state, const std::unordered_map<std::uint32_t, std::uint32_t>& index) {
    RuleClass made;
    made.protocols = static_cast<std::uint8_t>((state.tcp.empty() ? 0 : EGRESS_TCP) | (state.https ? EGRESS_HTTPS : 0) |
                                               (state.http != nullptr ? EGRESS_HTTP : 0));
    made.tcp_unlimited = !state.tcp.empty() && !state.tcp.front()->limits.max_connections;
    for (const EffectivePolicy* policy : state.tcp) made.tcp_policies.push_back(policy->id);
    if (state.http != nullptr) made.http_policy = state.http->id;
    for (const std::uint32_t group : state.groups) made.groups.push_back(index.at(group));
    std::sort(made.groups.begin(), made.groups.end());
    return classes_.try_emplace(std::move(made), static_cast<std::uint32_t>(classes_.size())).first->second;
  }

  std::uint16_t port_;
  RuleSet& rules_;
  std::map<RuleClass, std::uint32_t>& classes_;
  std::vector<Item> items_;
  GroupTable groups_;
  std::vector<State> states_;
  std::vector<Visited> enclosing_;
  std::vector<Visited> visited_;
};

}  // namespace

RuleSet Compile(std::span<const PolicyPtr> policies) {
  // Equal input in another order is equal input.
  std::vector<const EffectivePolicy*> sorted;
  for (const PolicyPtr& policy : policies) sorted.push_back(policy.get());
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return *a < *b; });

  RuleSet rules;
  std::map<RuleClass, std::uint32_t> classes;
  std::map<std::uint16_t, PortCompiler> ports;
  for (const EffectivePolicy* policy : sorted) {
    for (const Port& port : policy->ports) {
      ports.try_emplace(port.number, port.number, &rules, &classes).first->second.Add(*policy, port.protocol);
    }
  }
  for (auto& [number, compiler] : ports) compiler.Run();

  // Numbered in their own order, so that equal input gives equal output.
  std::vector<std::uint32_t> renumbered(classes.size());
  for (const auto& [rule_class, number] : classes) {
    renumbered[number] = static_cast<std::uint32_t>(rules.classes.size());
    rules.classes.push_back(rule_class);
  }
  for (PrefixRule& rule : rules.rules) rule.rule_class = renumbered[rule.rule_class];
  return rules;
}

}  // namespace egress::policy
