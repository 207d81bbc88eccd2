#include "agent/datapath/pinned_routes.h"

#include <arpa/inet.h>

#include <algorithm>
#include <map>

namespace egress::datapath {

namespace {

using Chunk = std::pair<route_key, route>;

bool InForceAt(std::uint32_t from, std::uint32_t until, std::uint32_t generation) {
  return from <= generation && (until == 0 || generation < until);
}

bool InForceAtAny(const route& chunk, const std::set<std::uint32_t>& generations) {
  return std::any_of(generations.begin(), generations.end(),
                     [&](std::uint32_t generation) { return InForceAt(chunk.from, chunk.until, generation); });
}

Prefix PrefixOf(const network_key& key) {
  if (key.prefixlen < EGRESS_NETWORK_KEY_FAMILY) return Prefix{};
  Prefix prefix;
  prefix.family = ntohs(key.family) == 4 ? Prefix::Family::kV4 : Prefix::Family::kV6;
  prefix.length = static_cast<std::uint8_t>(key.prefixlen - EGRESS_NETWORK_KEY_FAMILY);
  std::copy(std::begin(key.addr), std::end(key.addr), prefix.address.bytes.begin());
  return prefix;
}

std::uint32_t FlagsAt(const network& entry, std::uint32_t generation) {
  return generation >= entry.generation ? entry.next : entry.now;
}

}  // namespace

std::optional<std::string> JoinChunks(std::vector<Chunk> chunks) {
  std::sort(chunks.begin(), chunks.end(), [](const Chunk& a, const Chunk& b) { return a.first.chunk < b.first.chunk; });
  std::string text;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const auto& [key, part] = chunks[i];
    if (key.chunk != i || part.chunks != chunks.size() || part.from != chunks.front().second.from) return std::nullopt;
    if (part.length > EGRESS_ROUTE_TEXT) return std::nullopt;
    text.append(part.text, part.length);
  }
  if (chunks.empty()) return std::nullopt;
  return text;
}

Result<RouteDocuments> ReadDocuments(const std::vector<Chunk>& chunks, const std::set<std::uint32_t>& generations) {
  std::map<std::uint32_t, std::vector<Chunk>> by_document;
  std::set<std::uint32_t> wanted;
  for (const Chunk& chunk : chunks) {
    if (!InForceAtAny(chunk.second, generations)) continue;
    wanted.insert(chunk.first.document);
  }
  for (const Chunk& chunk : chunks) {
    if (wanted.contains(chunk.first.document)) by_document[chunk.first.document].push_back(chunk);
  }
  std::vector<RouteDocument> documents;
  for (auto& [id, parts] : by_document) {
    RouteDocument document{parts.front().second.from, parts.front().second.until, nullptr};
    const auto text = JoinChunks(std::move(parts));
    if (!text) return Error{"document " + std::to_string(id) + " in the map routes is not whole"};
    auto policy = policy::FromDocument(*text);
    if (!policy) return std::move(policy).error().Wrap("document " + std::to_string(id) + " of the map routes");
    document.policy = std::make_shared<const policy::EffectivePolicy>(*std::move(policy));
    documents.push_back(std::move(document));
  }
  return RouteDocuments(std::move(documents));
}

std::vector<policy::PolicyPtr> RouteDocuments::InForce(std::uint32_t generation,
                                                       const std::string& service_account) const {
  // An agent that has just taken over writes its own documents before it sweeps those of its predecessor: of two
  // documents of one policy the later one holds.
  std::map<policy::ObjectId, const RouteDocument*> latest;
  for (const RouteDocument& document : documents_) {
    if (!InForceAt(document.from, document.until, generation)) continue;
    const RouteDocument*& best = latest[document.policy->id];
    if (best == nullptr || best->from <= document.from) best = &document;
  }
  std::vector<policy::PolicyPtr> result;
  for (const auto& [id, document] : latest) {
    const auto& accounts = document->policy->service_accounts;
    const bool applies = std::any_of(accounts.begin(), accounts.end(), [&](const policy::ServiceAccount& account) {
      return account.ToString() == service_account;
    });
    if (applies) result.push_back(document->policy);
  }
  return result;
}

policy::NetworkPolicy NetworkPolicyAt(std::uint32_t generation,
                                      const std::vector<std::pair<network_key, network>>& networks,
                                      const std::vector<std::pair<__be16, network>>& ports) {
  policy::NetworkPolicy result;
  std::vector<Prefix> not_excluded;
  bool inclusion_list = false;
  for (const auto& [key, entry] : networks) {
    const Prefix prefix = PrefixOf(key);
    const std::uint32_t flags = FlagsAt(entry, generation);
    const bool any = prefix.family == Prefix::Family::kAny;
    if ((flags & EGRESS_NET_MESH) != 0) result.mesh.push_back(prefix);
    if ((flags & EGRESS_NET_DNS) != 0 && prefix.length == 128) result.dns_servers.push_back(prefix.address);
    if ((flags & EGRESS_NET_EXCLUDED) == 0) {
      if (!any) not_excluded.push_back(prefix);
    } else if (any) {
      inclusion_list = true;
    } else {
      result.excluded.push_back(prefix);
    }
  }
  // With an inclusion list all the world is excluded but the prefixes that say otherwise.
  if (inclusion_list) result.included = std::move(not_excluded);
  for (const auto& [port, entry] : ports) {
    if ((FlagsAt(entry, generation) & EGRESS_NET_EXCLUDED) != 0) result.excluded_ports.push_back(ntohs(port));
  }
  std::sort(result.mesh.begin(), result.mesh.end());
  std::sort(result.excluded.begin(), result.excluded.end());
  std::sort(result.included.begin(), result.included.end());
  std::sort(result.dns_servers.begin(), result.dns_servers.end());
  std::sort(result.excluded_ports.begin(), result.excluded_ports.end());
  return result;
}

void RestrictToMesh(policy::NetworkPolicy& network) {
  network.excluded.clear();
  network.included.clear();
  network.dns_servers.clear();
  network.excluded_ports.clear();
}

}  // namespace egress::datapath
