// The inside of Store: what is known, and the indexes that keep the cost of a change to what it touches.
#pragma once

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "agent/policy/object.h"
#include "agent/policy/parse.h"
#include "agent/policy/store.h"

namespace egress::policy {

struct Store::Impl {
  explicit Impl(Settings given) : settings(std::move(given)) {}

  // A source unit: a file, or an object of the API.
  struct Unit {
    std::vector<ObjectPtr> objects;
    std::vector<Finding> findings;  // not about one of `objects`
    bool suspect = false;           // its text does not parse, and may have been meant as a MeshConfig
  };

  // What follows from a valid Egress and what it refers to, as of the last Commit().
  struct EgressState {
    ObjectPtr resolved;  // the version that this was made from; it says which keys the state depends on
    PolicyPtr policy;
    std::vector<Finding> findings;
  };

  // What is known under one key. There may be several versions, by unit; only equal ones count.
  struct Entry {
    std::vector<std::pair<const std::string*, ObjectPtr>> versions;  // sorted by unit, a key of `units`
    ObjectPtr current;                                               // as of the last Commit()
    std::vector<Finding> conflicts;
    std::unique_ptr<EgressState> egress;  // of a valid Egress
    bool dirty = false;                   // stands in `dirty`
    bool unresolved = false;              // stands in `unresolved`
  };
  using Objects = std::map<Key, Entry>;
  using Node = Objects::value_type;  // does not move

  struct Shadows {
    bool stale = true;
    std::vector<Finding> findings;
  };

  void SetUnit(const std::string& name, std::string_view text, const std::string& file);
  void SetUnreadableUnit(const std::string& name, const std::string& message, const std::string& file);
  void RemoveUnit(const std::string& name);
  Changes Commit();
  std::vector<Finding> Findings() const;
  Key MeshConfigKey() const { return {Kind::kMeshConfig, {settings.control_plane_namespace, "osm-mesh-config"}}; }
  const Object* FindCurrent(const Key& key) const;
  const EgressState* FindEgress(const ObjectId& id) const;
  PodView View(const ObjectPtr& object) const;  // of a Pod

  Settings settings;
  std::unordered_map<std::string, Unit> units;
  Objects objects;
  std::map<Key, std::vector<Node*>> referrers;                // key -> Egress objects whose state depends on it
  std::map<ServiceAccount, std::vector<PolicyPtr>> accounts;  // sorted by id
  std::map<std::string, std::set<ObjectId>> pods_by_namespace;
  std::set<std::string> suspects;              // units
  std::unordered_set<std::string> remembered;  // units that held the MeshConfig once
  NetworkPolicy network;                       // as of the last Commit()
  bool network_known = false;                  // a Commit() has been made

  std::vector<Node*> dirty;       // versions changed since the last Commit()
  std::vector<Node*> unresolved;  // Egress objects to resolve again
  bool findings_changed = false;
  mutable std::map<ServiceAccount, Shadows> shadows;

 private:
  void ReplaceUnit(const std::string& name, Parsed parsed, std::string_view text);
  void KeepUnread(const std::string& name, const Unit& previous, std::string_view text, Unit* next) const;
  void ReplaceVersions(const std::string& name, const Unit& previous, const Unit& next);
  void MarkDirty(Node* node);
  void MarkUnresolved(Node* node);
  void Settle(Node* node, Changes* changes);
  ObjectPtr Choose(Entry* entry) const;
  void FollowChange(const Key& key, const Object* before, const Object* after, Changes* changes);
  void Touch(const Key& key);
  void ResolveEgress(Node* node, Changes* changes);
  void Relink(Node* node, const Object* before, const Object* after);
  void ReplacePolicy(const PolicyPtr& before, const PolicyPtr& after, Changes* changes);
  void SettleNetwork(Changes* changes);
  NetworkPolicy MakeNetwork() const;
};

}  // namespace egress::policy
