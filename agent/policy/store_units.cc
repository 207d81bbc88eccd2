// Source units coming and going: what each holds, and what it still holds where its text cannot be read.

#include <algorithm>

#include "agent/policy/store_impl.h"

namespace egress::policy {
namespace {

// Whether text that does not parse may be meant as a MeshConfig: it says so after `kind` or `apiVersion`.
bool MentionsMeshConfig(std::string_view text) {
  const auto follows = [&](std::string_view word, std::string_view field) {
    for (std::size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
      std::string_view head = text.substr(0, at);
      const std::size_t value = head.find_last_not_of(" \t\r\n\"'");
      if (value == std::string_view::npos || head[value] != ':') continue;
      const std::size_t name = head.find_last_not_of(" \t\r\n\"'", value == 0 ? 0 : value - 1);
      if (name != std::string_view::npos && head.substr(0, name + 1).ends_with(field)) return true;
    }
    return false;
  };
  return follows("MeshConfig", "kind") || follows("config.openservicemesh.io/", "apiVersion");
}

// What is left of an object whose text can no longer be read. A Pod stays what it was: it is no grant, and forgetting
// it would set it free.
ObjectPtr Unreadable(const Object& object) {
  auto left = std::make_shared<Object>();
  left->key = object.key;
  left->location = object.location;
  if (object.key.kind == Kind::kPod) left->model = object.model;
  return left;
}

}  // namespace

void Store::Impl::SetUnit(const std::string& name, std::string_view text, const std::string& file) {
  ReplaceUnit(name, Parse(file, text, settings), text);
}

void Store::Impl::SetUnreadableUnit(const std::string& name, const std::string& message, const std::string& file) {
  Parsed parsed;
  parsed.broken = true;
  parsed.findings.push_back({Severity::kError, {file, 1}, "", {}, "", message});
  ReplaceUnit(name, std::move(parsed), {});
}

void Store::Impl::ReplaceUnit(const std::string& name, Parsed parsed, std::string_view text) {
  Unit next;
  next.objects = std::move(parsed.objects);
  next.findings = std::move(parsed.findings);
  const auto unit = units.try_emplace(name).first;
  const Unit& previous = unit->second;
  if (parsed.broken || parsed.unidentified) KeepUnread(name, previous, text, &next);
  if (next.suspect) {
    suspects.insert(name);
  } else {
    suspects.erase(name);
  }
  if (!parsed.broken) remembered.erase(name);
  findings_changed |= next.findings != previous.findings;
  ReplaceVersions(unit->first, previous, next);
  unit->second = std::move(next);
}

// What the unit held before and does not hold now has not been deleted: it may be in what cannot be read.
void Store::Impl::KeepUnread(const std::string& name, const Unit& previous, std::string_view text, Unit* next) const {
  std::set<Key> present;
  bool mesh_config = false;
  for (const ObjectPtr& object : next->objects) {
    present.insert(object->key);
    mesh_config |= object->key == MeshConfigKey();
  }
  for (const ObjectPtr& object : previous.objects) {
    if (present.insert(object->key).second) next->objects.push_back(Unreadable(*object));
  }
  next->suspect = !mesh_config && (previous.suspect || remembered.contains(name) || MentionsMeshConfig(text));
}

void Store::Impl::RemoveUnit(const std::string& name) {
  const auto found = units.find(name);
  if (found == units.end()) return;
  suspects.erase(name);
  remembered.erase(name);
  findings_changed |= !found->second.findings.empty();
  ReplaceVersions(found->first, found->second, Unit());
  units.erase(found);
}

// `name` is the unit's key in `units`.
void Store::Impl::ReplaceVersions(const std::string& name, const Unit& previous, const Unit& next) {
  for (const ObjectPtr& object : previous.objects) {
    const auto node = objects.find(object->key);
    std::erase_if(node->second.versions, [&](const auto& version) { return version.first == &name; });
    MarkDirty(&*node);
  }
  for (const ObjectPtr& object : next.objects) {
    const auto node = objects.try_emplace(object->key).first;
    auto& versions = node->second.versions;
    const auto at = std::upper_bound(versions.begin(), versions.end(), name,
                                     [](const std::string& a, const auto& version) { return a < *version.first; });
    versions.insert(at, {&name, object});
    MarkDirty(&*node);
  }
}

}  // namespace egress::policy
