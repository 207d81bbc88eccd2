#include "agent/policy/store_impl.h"

#include <algorithm>

#include "agent/policy/enrolment.h"
#include "agent/policy/resolve.h"
#include "agent/policy/shadow.h"

namespace egress::policy {
namespace {

void SortUnique(auto* list) {
  std::sort(list->begin(), list->end());
  list->erase(std::unique(list->begin(), list->end()), list->end());
}

}  // namespace

const Store::Impl::EgressState* Store::Impl::FindEgress(const ObjectId& id) const {
  const auto found = objects.find({Kind::kEgress, id});
  return found == objects.end() ? nullptr : found->second.egress.get();
}

const Object* Store::Impl::FindCurrent(const Key& key) const {
  const auto found = objects.find(key);
  return found == objects.end() ? nullptr : found->second.current.get();
}

Changes Store::Impl::Commit() {
  Changes changes;
  for (Node* node : std::exchange(dirty, {})) Settle(node, &changes);
  for (Node* node : std::exchange(unresolved, {})) {
    node->second.unresolved = false;
    ResolveEgress(node, &changes);
    if (node->second.current == nullptr) objects.erase(objects.find(node->first));
  }
  SettleNetwork(&changes);
  SortUnique(&changes.service_accounts);
  SortUnique(&changes.policies);
  SortUnique(&changes.pods);
  changes.findings = findings_changed;
  findings_changed = false;
  return changes;
}

// Of several versions that differ none counts.
ObjectPtr Store::Impl::Choose(Entry* entry) const {
  entry->conflicts.clear();
  const ObjectPtr& first = entry->versions.front().second;
  const auto& versions = entry->versions;
  const auto differs = std::find_if(versions.begin(), versions.end(),
                                    [&](const auto& version) { return !SameContent(*version.second, *first); });
  if (differs == versions.end()) return first;
  for (const auto& [unit, object] : versions) {
    const Object& other = object == first ? *differs->second : *first;
    entry->conflicts.push_back({Severity::kError, object->location, KindName(object->key.kind), object->key.id, "",
                                "stands with different content in " +
                                    (other.location.file.empty() ? "another object" : other.location.file) + ", line " +
                                    std::to_string(other.location.line) + ", too; keep one of them"});
  }
  auto invalid = std::make_shared<Object>();
  invalid->key = first->key;
  invalid->location = first->location;
  if (const PodPtr* pod = std::get_if<PodPtr>(&first->model)) {
    // Which pod this is, nobody can tell: it is governed, and nobody's rules are its own.
    auto safe = std::make_shared<Pod>(**pod);
    safe->host_network = false;
    safe->service_account.name.clear();
    invalid->model = PodPtr(std::move(safe));
  }
  return invalid;
}

void Store::Impl::MarkDirty(Node* node) {
  if (!std::exchange(node->second.dirty, true)) dirty.push_back(node);
}

void Store::Impl::MarkUnresolved(Node* node) {
  if (!std::exchange(node->second.unresolved, true)) unresolved.push_back(node);
}

void Store::Impl::Settle(Node* node, Changes* changes) {
  const Key key = node->first;
  Entry& entry = node->second;
  entry.dirty = false;
  const ObjectPtr before = entry.current;
  const bool conflicted = !entry.conflicts.empty();
  if (entry.versions.empty()) {
    entry.conflicts.clear();
    entry.current = nullptr;
  } else {
    entry.current = Choose(&entry);
  }
  findings_changed |= conflicted || !entry.conflicts.empty() ||
                      (before == nullptr ? std::vector<Finding>() : before->findings) !=
                          (entry.current == nullptr ? std::vector<Finding>() : entry.current->findings);
  const ObjectPtr after = entry.current;
  if (key.kind == Kind::kEgress) {
    MarkUnresolved(node);  // what it granted is withdrawn there
  } else if (after == nullptr) {
    objects.erase(key);
  }
  const bool same = before != nullptr && after != nullptr ? SameContent(*before, *after) : before == after;
  if (!same) FollowChange(key, before.get(), after.get(), changes);
}

void Store::Impl::Touch(const Key& key) {
  const auto found = referrers.find(key);
  if (found == referrers.end()) return;
  for (Node* node : found->second) MarkUnresolved(node);
}

void Store::Impl::FollowChange(const Key& key, const Object* before, const Object* after, Changes* changes) {
  switch (key.kind) {
    case Kind::kHttpRouteGroup:
    case Kind::kUpstreamTrafficSetting: return Touch(key);
    case Kind::kNamespace: {
      Touch(key);
      changes->namespaces = true;
      const auto pods = pods_by_namespace.find(key.id.name);
      if (pods == pods_by_namespace.end()) return;
      changes->pods.insert(changes->pods.end(), pods->second.begin(), pods->second.end());
      return;
    }
    case Kind::kPod:
      changes->pods.push_back(key.id);
      if (before == nullptr) pods_by_namespace[key.id.ns].insert(key.id);
      if (after == nullptr) {
        pods_by_namespace[key.id.ns].erase(key.id);
        if (pods_by_namespace[key.id.ns].empty()) pods_by_namespace.erase(key.id.ns);
      }
      return;
    case Kind::kEgress:
    case Kind::kMeshConfig: return;  // resolved in any case; read by MakeNetwork()
  }
}

void Store::Impl::Relink(Node* node, const Object* before, const Object* after) {
  const auto references = [](const Object* object) {
    return object == nullptr ? std::vector<Key>() : ReferencesOf(*object);
  };
  const std::vector<Key> old_keys = references(before);
  const std::vector<Key> new_keys = references(after);
  if (old_keys == new_keys) return;
  for (const Key& key : old_keys) {
    const auto found = referrers.find(key);
    std::erase(found->second, node);
    if (found->second.empty()) referrers.erase(found);
  }
  for (const Key& key : new_keys) referrers[key].push_back(node);
}

void Store::Impl::ResolveEgress(Node* node, Changes* changes) {
  Entry& entry = node->second;
  const ObjectPtr object = entry.current != nullptr && entry.current->valid ? entry.current : nullptr;
  if (object == nullptr && entry.egress == nullptr) return;
  if (entry.egress == nullptr) entry.egress = std::make_unique<EgressState>();
  EgressState& state = *entry.egress;
  Relink(node, state.resolved.get(), object.get());
  state.resolved = object;
  Resolution resolution;
  if (object != nullptr) {
    resolution = Resolve(*object, settings, [&](const Key& other) { return FindCurrent(other); });
  }
  findings_changed |= state.findings != resolution.findings;
  state.findings = std::move(resolution.findings);
  ReplacePolicy(state.policy, resolution.policy, changes);
  const bool same = state.policy != nullptr && resolution.policy != nullptr && *state.policy == *resolution.policy;
  if (!same) state.policy = std::move(resolution.policy);
  if (state.policy != nullptr) {
    // The policy may be the same, but stand in another line.
    for (const ServiceAccount& account : state.policy->service_accounts) shadows[account].stale = true;
  }
  if (object == nullptr) entry.egress.reset();
}

void Store::Impl::ReplacePolicy(const PolicyPtr& before, const PolicyPtr& after, Changes* changes) {
  if (before == after || (before != nullptr && after != nullptr && *before == *after)) return;
  const auto less = [](const PolicyPtr& policy, const ObjectId& id) { return policy->id < id; };
  const auto touch = [&](const ServiceAccount& account) {
    changes->service_accounts.push_back(account);
    shadows[account].stale = true;
  };
  if (before != nullptr) {
    changes->policies.push_back(before->id);
    for (const ServiceAccount& account : before->service_accounts) {
      const auto found = accounts.find(account);
      auto& policies = found->second;
      policies.erase(std::lower_bound(policies.begin(), policies.end(), before->id, less));
      if (policies.empty()) accounts.erase(found);
      touch(account);
    }
  }
  if (after != nullptr) {
    changes->policies.push_back(after->id);
    for (const ServiceAccount& account : after->service_accounts) {
      auto& policies = accounts[account];
      policies.insert(std::lower_bound(policies.begin(), policies.end(), after->id, less), after);
      touch(account);
    }
  }
  findings_changed = true;  // of the other policies: what shadows them may have changed
}

NetworkPolicy Store::Impl::MakeNetwork() const {
  NetworkPolicy made;
  made.mesh = settings.mesh_cidrs;
  made.dns_servers = settings.dns_servers;
  made.other_protocols_allowed = settings.other_protocols_allowed;
  made.audit = settings.audit;
  const Object* object = FindCurrent(MeshConfigKey());
  if (!suspects.empty() || (object != nullptr && !object->valid)) {
    made.policies_enabled = false;
  } else if (object != nullptr) {
    const auto& mesh_config = std::get<MeshConfig>(object->model);
    made.open = mesh_config.enable_egress;
    made.policies_enabled = mesh_config.enable_egress_policy;
    made.excluded = mesh_config.excluded;
    made.included = mesh_config.included;
    made.excluded_ports = mesh_config.excluded_ports;
  }
  return made;
}

void Store::Impl::SettleNetwork(Changes* changes) {
  NetworkPolicy next = MakeNetwork();
  const bool switched = network_known && next.policies_enabled != network.policies_enabled;
  changes->network = !network_known || next != network;
  network = std::move(next);
  if (!network.policies_enabled && !switched) {
    // Nothing of what changed is visible.
    changes->service_accounts.clear();
    changes->policies.clear();
  }
  network_known = true;
  if (!switched) return;
  for (const auto& [account, policies] : accounts) changes->service_accounts.push_back(account);
  for (const auto& [key, entry] : objects) {
    if (entry.egress != nullptr && entry.egress->policy != nullptr) changes->policies.push_back(key.id);
  }
}

Store::PodView Store::Impl::View(const ObjectPtr& object) const {
  PodView view;
  view.pod = std::get<PodPtr>(object->model);
  const Pod& pod = *view.pod;
  if (pod.host_network) {
    view.why = "the pod uses the node's network (hostNetwork)";
    return view;
  }
  const Object* ns = FindCurrent({Kind::kNamespace, {"", pod.id.ns}});
  if (ns != nullptr && ns->valid) {
    view.why = WhyNotEnrolled(std::get<Namespace>(ns->model), settings);
  } else if (IsSystemNamespace(pod.id.ns, settings)) {
    view.why = "namespace " + pod.id.ns + " is a system namespace";
  }
  view.governed = view.why.empty();
  return view;
}

}  // namespace egress::policy
