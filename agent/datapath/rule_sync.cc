#include "agent/datapath/rule_sync.h"

#include <arpa/inet.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <tuple>
#include <utility>

#include "bpf/hash.h"

namespace egress::datapath {
namespace {

constexpr std::size_t kFormerNames = 256;

rule_key RuleKey(std::uint32_t ruleset, std::uint16_t port, const Prefix& prefix) {
  rule_key key = {};
  key.ruleset = htonl(ruleset);
  key.port = htons(port);
  key.prefixlen = EGRESS_RULE_KEY_ANY;
  if (prefix.family != Prefix::Family::kAny) {
    key.prefixlen = EGRESS_RULE_KEY_FAMILY + prefix.length;
    key.family = htons(prefix.family == Prefix::Family::kV4 ? 4 : 6);
    std::copy(prefix.address.bytes.begin(), prefix.address.bytes.end(), key.addr);
  }
  return key;
}

using RuleIterator = std::vector<policy::PrefixRule>::const_iterator;

bool Before(const policy::PrefixRule& a, const policy::PrefixRule& b) {
  return std::tie(a.port, a.prefix) < std::tie(b.port, b.prefix);
}

// Class id that `rules` give to a prefix: of the prefix itself or the longest that covers it; 0 if none does.
std::uint32_t ClassAt(const std::vector<policy::PrefixRule>& rules, const std::vector<std::uint32_t>& ids,
                      std::uint16_t port, const Prefix& prefix) {
  const auto find = [&](const Prefix& wanted) -> const policy::PrefixRule* {
    const policy::PrefixRule key{port, wanted, 0};
    const auto at = std::lower_bound(rules.begin(), rules.end(), key, Before);
    return at != rules.end() && at->port == port && at->prefix == wanted ? &*at : nullptr;
  };
  if (prefix.family != Prefix::Family::kAny) {
    for (int length = prefix.length; length >= 0; --length) {
      Prefix shorter = MakePrefix(prefix.address, static_cast<std::uint8_t>(length));
      shorter.family = prefix.family;
      if (const auto* rule = find(shorter)) return ids[rule->rule_class];
    }
  }
  const auto* any = find(Prefix{});
  return any != nullptr ? ids[any->rule_class] : 0;
}

}  // namespace

RuleSync::RuleSync(const KernelObject& kernel)
    : kernel_(kernel),
      first_id_(kernel.config()->next_id),
      rules_map_(kernel.Map<rule_key, struct rule>("rules")),
      hosts_map_(kernel.Map<host_key, struct host>("hosts")),
      classes_map_(kernel.Map<std::uint32_t, rule_class>("classes")),
      policies_map_(kernel.Map<std::uint32_t, struct policy>("policies")) {
  // An Egress keeps its id across agents, so that connections counted against its limit stay counted.
  policies_map_.ForEachKey([&](std::uint32_t id) {
    const auto entry = policies_map_.Get(id);
    if (!entry) return;
    const std::string name(entry->name, ::strnlen(entry->name, sizeof entry->name));
    const std::size_t slash = name.find('/');
    if (slash == std::string::npos) return;
    const auto known = policies_.insert_or_assign({name.substr(0, slash), name.substr(slash + 1)}, id).first;
    policy_names_[id] = &known->first;
    inherited_policies_.insert(id);
  });
}

bool RuleSync::ByContent(const Class& a, const Class& b) { return a.content < b.content; }

std::size_t RuleSync::IdHash::operator()(const policy::ObjectId& id) const {
  const std::hash<std::string> hash;
  return hash(id.name) * 31 + hash(id.ns);
}

std::uint32_t RuleSync::NextId() { return __atomic_fetch_add(&kernel_.config()->next_id, 1, __ATOMIC_SEQ_CST); }

Result<void> RuleSync::SetPolicy(const policy::ObjectId& id, const policy::Limits& limits) {
  const auto known = policies_.find(id);
  const std::uint32_t number = known != policies_.end() ? known->second : NextId();
  struct policy entry = {};
  entry.limited = limits.max_connections.has_value();
  entry.max_connections = limits.max_connections.value_or(0);
  entry.connect_timeout_ms = limits.connect_timeout_ms.value_or(0);
  if (entry.connect_timeout_ms != 0) kernel_.config()->connect_timeouts = 1;
  const std::string name = id.ToString();
  name.copy(entry.name, sizeof entry.name - 1);
  if (auto done = policies_map_.Set(number, entry); !done) return done;
  policy_names_[number] = &policies_.insert_or_assign(id, number).first->first;
  std::erase(dead_policies_, number);
  inherited_policies_.erase(number);
  return {};
}

void RuleSync::ForgetPolicy(const policy::ObjectId& id) {
  const auto known = policies_.find(id);
  if (known == policies_.end()) return;
  dead_policies_.push_back(known->second);
}

std::uint32_t RuleSync::PolicyId(const policy::ObjectId& id) const {
  const auto known = policies_.find(id);
  return known != policies_.end() ? known->second : 0;
}

std::string RuleSync::PolicyName(std::uint32_t id) const {
  const auto known = policy_names_.find(id);
  if (known != policy_names_.end()) return known->second->ToString();
  const auto former =
      std::find_if(former_names_.begin(), former_names_.end(), [id](const auto& entry) { return entry.first == id; });
  return former != former_names_.end() ? former->second : std::string();
}

std::uint32_t RuleSync::RulesetOf(const policy::ServiceAccount& account) const {
  const auto known = accounts_.find(account);
  return known != accounts_.end() ? known->second.ruleset : 0;
}

Result<void> RuleSync::Stage(std::uint32_t generation, const policy::ServiceAccount& account, policy::RuleSet next) {
  Account& current = accounts_[account];
  if (current.ruleset == 0) current.ruleset = NextId();
  std::vector<std::uint32_t> group_ids;
  if (auto done = StageGroups(generation, current, next, group_ids); !done) return done;
  auto class_ids = WriteClasses(current, next, group_ids);
  if (!class_ids) return std::move(class_ids).error();
  if (auto done = StageRules(generation, current, next, *class_ids); !done) return done;
  current.rules = std::move(next.rules);
  current.class_ids = *std::move(class_ids);
  return {};
}

void RuleSync::Forget(const policy::ServiceAccount& account) {
  const auto known = accounts_.find(account);
  if (known == accounts_.end()) return;
  const Account& gone = known->second;
  for (const auto& rule : gone.rules) dead_rules_.push_back(RuleKey(gone.ruleset, rule.port, rule.prefix));
  for (const Class& one : gone.classes) dead_classes_.push_back(one.id);
  for (const Group& group : gone.groups) {
    for (const auto& [name, policy] : group.names) dead_hosts_.push_back(HostKey(group.id, name));
  }
  accounts_.erase(known);
}

// Brings the groups of an account to those of `next`. Both are sorted, so one pass tells what differs. Where that fails
// those that come later stay as they are.
Result<void> RuleSync::StageGroups(std::uint32_t generation, Account& account, const policy::RuleSet& next,
                                   std::vector<std::uint32_t>& group_ids) {
  const auto identity = [](const auto& group) { return std::tie(group.port, group.cidrs); };
  std::vector<Group> before = std::exchange(account.groups, {});
  account.groups.reserve(next.groups.size());
  auto known = before.begin();
  auto wanted = next.groups.begin();
  Result<void> done;
  while (done && (known != before.end() || wanted != next.groups.end())) {
    if (wanted == next.groups.end() || (known != before.end() && identity(*known) < identity(*wanted))) {
      done = StageNames(generation, *known, {});
      if (done) ++known;
      continue;
    }
    const bool added = known == before.end() || identity(*wanted) < identity(*known);
    account.groups.push_back(added ? Group{wanted->port, NextId(), wanted->cidrs, {}} : std::move(*known++));
    group_ids.push_back(account.groups.back().id);
    done = StageNames(generation, account.groups.back(), wanted->names);
    ++wanted;
  }
  std::move(known, before.end(), std::back_inserter(account.groups));
  return done;
}

// The same for the names of one group.
Result<void> RuleSync::StageNames(std::uint32_t generation, Group& group,
                                  const std::vector<policy::HostGroup::Name>& next) {
  std::vector<Name> before = std::exchange(group.names, {});
  group.names.reserve(next.size());
  auto known = before.begin();
  auto wanted = next.begin();
  Result<void> done;
  while (known != before.end() || wanted != next.end()) {
    if (wanted == next.end() || (known != before.end() && known->name < wanted->name)) {
      done = WriteHost(generation, group.id, known->name, known->policy, 0);
      if (!done) break;
      dead_hosts_.push_back(HostKey(group.id, known->name));
      ++known;
      continue;
    }
    const std::uint32_t policy = PolicyId(wanted->policy);
    const bool added = known == before.end() || wanted->name < known->name;
    const std::uint32_t now = added ? 0 : known->policy;
    if (now != policy) done = WriteHost(generation, group.id, wanted->name, now, policy);
    if (!done) break;
    group.names.push_back({added ? wanted->name : std::move(known->name), policy});
    if (!added) ++known;
    ++wanted;
  }
  std::move(known, before.end(), std::back_inserter(group.names));
  return done;
}

host_key RuleSync::HostKey(std::uint32_t group, const std::string& name) const {
  egress_hash hash = {};
  egress_hash_start(&hash, kernel_.config()->hash_key);
  for (auto at = name.rbegin(); at != name.rend(); ++at) egress_hash_add(&hash, static_cast<__u8>(*at));
  return {.group = group, .pad = 0, .hash = egress_hash_value(&hash)};
}

Result<void> RuleSync::WriteHost(std::uint32_t generation, std::uint32_t group, const std::string& name,
                                 std::uint32_t now, std::uint32_t next) {
  struct host entry = {};
  entry.generation = generation;
  entry.now = now;
  entry.next = next;
  entry.length = static_cast<__u16>(name.size());
  name.copy(entry.name, sizeof entry.name - 1);
  return hosts_map_.Set(HostKey(group, name), entry);
}

// The class as the kernel has it; one of that content that is there already serves again.
Result<RuleSync::Class> RuleSync::WriteClass(const Account& account, const policy::RuleClass& wanted,
                                             const std::vector<std::uint32_t>& group_ids) {
  rule_class entry = {};
  entry.protocols = wanted.protocols;
  entry.tcp_unlimited = wanted.tcp_unlimited;
  for (const auto& id : wanted.tcp_policies) entry.tcp_policies[entry.tcp_count++] = PolicyId(id);
  if (wanted.http_policy != policy::ObjectId{}) entry.http_policy = PolicyId(wanted.http_policy);
  for (const std::uint32_t group : wanted.groups) entry.groups[entry.group_count++] = group_ids[group];
  const auto* words = reinterpret_cast<const std::uint32_t*>(&entry);
  std::size_t length = sizeof entry / sizeof *words;
  while (length > 0 && words[length - 1] == 0) --length;
  Class made{{words, words + length}, 0};
  const auto known = std::lower_bound(account.classes.begin(), account.classes.end(), made, ByContent);
  if (known != account.classes.end() && known->content == made.content) {
    made.id = known->id;
    return made;
  }
  made.id = NextId();
  if (auto done = classes_map_.Set(made.id, entry); !done) return std::move(done).error();
  return made;
}

Result<std::vector<std::uint32_t>> RuleSync::WriteClasses(Account& account, const policy::RuleSet& next,
                                                          const std::vector<std::uint32_t>& group_ids) {
  std::vector<Class> classes;
  std::vector<std::uint32_t> ids;
  classes.reserve(next.classes.size());
  ids.reserve(next.classes.size());
  for (const policy::RuleClass& wanted : next.classes) {
    auto made = WriteClass(account, wanted, group_ids);
    if (!made) return std::move(made).error();
    ids.push_back(made->id);
    classes.push_back(*std::move(made));
  }
  std::vector<std::uint32_t> kept = ids;
  std::sort(kept.begin(), kept.end());
  for (const Class& known : account.classes) {
    if (!std::binary_search(kept.begin(), kept.end(), known.id)) dead_classes_.push_back(known.id);
  }
  std::sort(classes.begin(), classes.end(), ByContent);
  account.classes = std::move(classes);
  return ids;
}

Result<void> RuleSync::StageRules(std::uint32_t generation, Account& account, const policy::RuleSet& next,
                                  const std::vector<std::uint32_t>& class_ids) {
  const auto write = [&](const policy::PrefixRule& rule, std::uint32_t now, std::uint32_t then) {
    return rules_map_.Set(RuleKey(account.ruleset, rule.port, rule.prefix), {generation, now, then});
  };
  auto known = account.rules.begin();
  auto wanted = next.rules.begin();
  while (known != account.rules.end() || wanted != next.rules.end()) {
    if (wanted == next.rules.end() || (known != account.rules.end() && Before(*known, *wanted))) {
      const std::uint32_t inherited = ClassAt(next.rules, class_ids, known->port, known->prefix);
      if (auto done = write(*known, account.class_ids[known->rule_class], inherited); !done) return done;
      dead_rules_.push_back(RuleKey(account.ruleset, known->port, known->prefix));
      ++known;
      continue;
    }
    const std::uint32_t then = class_ids[wanted->rule_class];
    if (known == account.rules.end() || Before(*wanted, *known)) {
      const std::uint32_t now = ClassAt(account.rules, account.class_ids, wanted->port, wanted->prefix);
      if (auto done = write(*wanted, now, then); !done) return done;
    } else {
      const std::uint32_t now = account.class_ids[known->rule_class];
      if (now != then) {
        if (auto done = write(*wanted, now, then); !done) return done;
      }
      ++known;
    }
    ++wanted;
  }
  return {};
}

void RuleSync::Sweep() {
  // Failures leave an entry that no pod sees; it goes with SweepForeign() of the next agent.
  for (const auto& key : dead_rules_) (void)rules_map_.Delete(key);
  for (const auto& key : dead_hosts_) (void)hosts_map_.Delete(key);
  for (const auto id : dead_classes_) (void)classes_map_.Delete(id);
  for (const auto id : dead_policies_) DropPolicy(id);
  dead_rules_.clear();
  dead_hosts_.clear();
  dead_classes_.clear();
  dead_policies_.clear();
}

void RuleSync::DropPolicy(std::uint32_t id) {
  (void)policies_map_.Delete(id);
  const auto known = policy_names_.find(id);
  if (known == policy_names_.end()) return;
  former_names_.emplace_back(id, known->second->ToString());
  if (former_names_.size() > kFormerNames) former_names_.pop_front();
  policies_.erase(policies_.find(*known->second));
  policy_names_.erase(known);
}

void RuleSync::SweepForeign() {
  if (first_id_ <= 1) return;  // there was no agent before this one
  std::set<std::uint32_t> rulesets;
  for (const auto& [name, account] : accounts_) rulesets.insert(account.ruleset);
  rules_map_.ForEachKey([&](const rule_key& key) {
    if (!rulesets.contains(ntohl(key.ruleset))) (void)rules_map_.Delete(key);
  });
  hosts_map_.ForEachKey([&](const host_key& key) {
    if (key.group < first_id_) (void)hosts_map_.Delete(key);
  });
  classes_map_.ForEachKey([&](std::uint32_t id) {
    if (id < first_id_) (void)classes_map_.Delete(id);
  });
  for (const std::uint32_t id : std::exchange(inherited_policies_, {})) DropPolicy(id);
}

}  // namespace egress::datapath
