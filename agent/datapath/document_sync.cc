#include "agent/datapath/document_sync.h"

#include <algorithm>
#include <set>

#include "agent/datapath/pinned_routes.h"

namespace egress::datapath {

DocumentSync::DocumentSync(const KernelObject& kernel)
    : kernel_(kernel), first_number_(kernel.config()->next_id), map_(kernel.Map<route_key, struct route>("routes")) {}

Result<bool> DocumentSync::Stage(std::uint32_t generation, const policy::ObjectId& id, policy::PolicyPtr policy) {
  const auto known = documents_.find(&id);
  if (known != documents_.end()) {
    const policy::EffectivePolicy& before = *known->second.policy;
    if (policy && (known->second.policy == policy || before == *policy)) {
      Share(known, std::move(policy));
      return false;
    }
    if (auto done = Write(known->second, policy::ToDocument(before), generation); !done) return std::move(done).error();
    dead_.push_back(known->second);
    documents_.erase(known);
    if (!policy) return true;
  }
  if (!policy) return false;
  Document document;
  document.number = __atomic_fetch_add(&kernel_.config()->next_id, 1, __ATOMIC_SEQ_CST);
  document.from = generation;
  const std::string text = policy::ToDocument(*policy);
  document.chunks = static_cast<std::uint32_t>((text.size() + EGRESS_ROUTE_TEXT - 1) / EGRESS_ROUTE_TEXT);
  document.policy = std::move(policy);
  if (auto done = Write(document, text, 0); !done) return std::move(done).error();
  const policy::ObjectId* key = &document.policy->id;
  documents_.emplace(key, std::move(document));
  return true;
}

// Of one that is adopted the store has made its own: nobody needs both.
void DocumentSync::Share(Documents::iterator known, policy::PolicyPtr policy) {
  auto node = documents_.extract(known);
  node.key() = &policy->id;
  node.mapped().policy = std::move(policy);
  documents_.insert(std::move(node));
}

Result<void> DocumentSync::Write(const Document& document, std::string_view text, std::uint32_t until) {
  for (std::uint32_t chunk = 0; chunk < document.chunks; ++chunk) {
    struct route entry = {};
    entry.from = document.from;
    entry.until = until;
    entry.chunks = document.chunks;
    entry.length = static_cast<__u32>(text.copy(entry.text, sizeof entry.text, chunk * EGRESS_ROUTE_TEXT));
    if (auto done = map_.Set({document.number, chunk}, entry); !done) return done;
  }
  return {};
}

policy::PolicyPtr DocumentSync::Current(const policy::ObjectId& id) const {
  const auto known = documents_.find(&id);
  return known != documents_.end() ? known->second.policy : nullptr;
}

const std::map<policy::ObjectId, policy::PolicyPtr> DocumentSync::All() const {
  std::map<policy::ObjectId, policy::PolicyPtr> all;
  for (const auto& [id, document] : documents_) all[*id] = document.policy;
  return all;
}

void DocumentSync::Adopt(std::uint32_t generation) {
  std::map<std::uint32_t, std::vector<std::pair<route_key, struct route>>> chunks;
  map_.ForEachKey([&](const route_key& key) {
    const auto entry = map_.Get(key);
    const bool in_force = entry && entry->from <= generation && (entry->until == 0 || generation < entry->until);
    if (in_force) chunks[key.document].emplace_back(key, *entry);
  });
  for (auto& [number, parts] : chunks) {
    Document document;
    document.number = number;
    document.from = parts.front().second.from;
    document.chunks = static_cast<std::uint32_t>(parts.size());
    const auto text = JoinChunks(std::move(parts));
    auto policy = text ? policy::FromDocument(*text) : Result<policy::EffectivePolicy>(Error{"is not whole"});
    // What would not be written the same way again cannot be ended later: it is left to SweepForeign().
    if (!policy || policy::ToDocument(*policy) != *text) continue;
    document.policy = std::make_shared<const policy::EffectivePolicy>(*std::move(policy));
    const auto known = documents_.find(&document.policy->id);
    if (known != documents_.end() && known->second.from > document.from) continue;
    if (known != documents_.end()) documents_.erase(known);
    const policy::ObjectId* key = &document.policy->id;
    documents_.emplace(key, std::move(document));
  }
}

void DocumentSync::Sweep() {
  for (const Document& document : dead_) {
    for (std::uint32_t chunk = 0; chunk < document.chunks; ++chunk) (void)map_.Delete({document.number, chunk});
  }
  dead_.clear();
}

void DocumentSync::SweepForeign() {
  if (first_number_ <= 1) return;  // there was no agent before this one
  std::set<std::uint32_t> adopted;
  for (const auto& [id, document] : documents_) adopted.insert(document.number);
  map_.ForEachKey([&](const route_key& key) {
    if (key.document < first_number_ && !adopted.contains(key.document)) (void)map_.Delete(key);
  });
}

}  // namespace egress::datapath
