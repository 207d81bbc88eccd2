#include "agent/policy/decide.h"

#include <algorithm>

#include "agent/base/address_forms.h"
#include "agent/policy/host.h"
#include "agent/policy/index.h"

namespace egress::policy {
namespace {

constexpr std::uint16_t kDnsPort = 53;

bool Covers(const std::vector<Prefix>& prefixes, const Address& address) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const Prefix& prefix) { return prefix.Contains(address); });
}

// Why everything passes to (address, port), whatever the policies say; EGRESS_REASON_NONE where it does not.
egress_reason WhyOpen(const NetworkPolicy& network, const Address& address, std::uint16_t port) {
  if (network.open) return EGRESS_REASON_OPEN;
  if (Covers(network.mesh, address)) return EGRESS_REASON_MESH;
  if (!network.included.empty() && !Covers(network.included, address)) return EGRESS_REASON_EXCLUDED;
  if (Covers(network.excluded, address)) return EGRESS_REASON_EXCLUDED;
  const auto& servers = network.dns_servers;
  if (port == kDnsPort && std::find(servers.begin(), servers.end(), address) != servers.end()) {
    return EGRESS_REASON_DNS;
  }
  if (std::binary_search(network.excluded_ports.begin(), network.excluded_ports.end(), port)) {
    return EGRESS_REASON_EXCLUDED;
  }
  return EGRESS_REASON_NONE;
}

// What one form of an address leaves open: where any bytes may go to it, everything. But the proxy, which knows rules and
// no networks, can pass nothing to a form that no rule covers.
std::uint8_t Usable(const ConnectDecision& form) {
  if (!form.any_bytes) return form.protocols;
  return form.reason == EGRESS_REASON_RULE ? EGRESS_TCP | EGRESS_HTTP | EGRESS_HTTPS : EGRESS_TCP | EGRESS_HTTPS;
}

// "port 443 https, host *.example.com, route get".
std::string RuleText(std::uint16_t port, const char* protocol, std::string_view host, std::string_view route = {}) {
  std::string text;
  text.reserve(40 + host.size() + route.size());
  text += "port ";
  text += std::to_string(port);
  text += ' ';
  text += protocol;
  if (!host.empty()) {
    text += host.front() == '.' ? ", host *" : ", host ";
    text += host;
  }
  if (!route.empty()) {
    text += ", route ";
    text += route;
  }
  return text;
}

// A policy that grants something, and by which of its words.
struct Grant {
  Best best;
  std::string_view host;
  std::string_view route;

  void Offer(std::uint32_t number, std::string_view listed, std::string_view by_route = {}) {
    if (number >= best.policy) return;
    best.policy = number;
    host = listed;
    route = by_route;
  }
};

}  // namespace

PolicyIndex::PolicyIndex(std::vector<PolicyPtr> policies) : impl_(std::make_unique<const Impl>(std::move(policies))) {}
PolicyIndex::~PolicyIndex() = default;

const std::vector<PolicyPtr>& PolicyIndex::policies() const { return impl_->policies; }

ConnectDecision PolicyIndex::Connect(const NetworkPolicy& network, const Address& address, std::uint16_t port) const {
  ConnectDecision joined = ConnectForm(network, address, port);
  const AddressForms forms(address);
  std::uint8_t usable = Usable(joined);
  for (const Address* form = forms.begin() + 1; form != forms.end(); ++form) {
    const ConnectDecision other = ConnectForm(network, *form, port);
    usable &= Usable(other);
    if (usable == 0) return {};
    joined.any_bytes = (usable & EGRESS_TCP) != 0;
    joined.protocols = joined.any_bytes ? 0 : usable;
    if (other.reason == EGRESS_REASON_RULE) joined.reason = other.reason;
    if (!joined.policy) joined.policy = other.policy;
  }
  return joined;
}

ConnectDecision PolicyIndex::ConnectForm(const NetworkPolicy& network, const Address& address,
                                         std::uint16_t port) const {
  ConnectDecision decision;
  if (const egress_reason open = WhyOpen(network, address, port); open != EGRESS_REASON_NONE) {
    decision.allowed = true;
    decision.any_bytes = true;
    decision.reason = open;
    return decision;
  }
  const PortIndex* index = network.policies_enabled ? impl_->Find(port) : nullptr;
  if (index == nullptr) return decision;
  const Best tcp = index->tcp.Covering(address);
  const Best https = index->https.Covering(address);
  const Best http = index->http.Covering(address);
  const Best named = tcp.found() ? tcp : https.found() ? https : http;
  if (!named.found()) return decision;
  decision.allowed = true;
  decision.reason = EGRESS_REASON_RULE;
  decision.any_bytes = tcp.found();
  if (!tcp.found()) {
    decision.protocols =
        static_cast<std::uint8_t>((https.found() ? EGRESS_HTTPS : 0) | (http.found() ? EGRESS_HTTP : 0));
  }
  decision.policy = impl_->entries[named.policy].policy->id;
  return decision;
}

Decision PolicyIndex::Tls(const NetworkPolicy& network, const Address& address, std::uint16_t port,
                          std::string_view sni) const {
  const AddressForms forms(address);
  if (forms.size() == 1) return TlsForm(address, port, sni);
  std::optional<Decision> first;
  for (const Address& form : forms) {
    if (WhyOpen(network, form, port) != EGRESS_REASON_NONE) continue;
    Decision decision = TlsForm(form, port, sni);
    if (!decision.allowed) return decision;
    if (!first) first = std::move(decision);
  }
  return first ? *std::move(first) : Decision{true, WhyOpen(network, address, port), std::nullopt, ""};
}

Decision PolicyIndex::TlsForm(const Address& address, std::uint16_t port, std::string_view sni) const {
  Decision decision;
  const PortIndex* index = impl_->Find(port);
  if (index == nullptr) return decision;
  const auto& entries = impl_->entries;
  if (const Best tcp = index->tcp.Covering(address); tcp.found()) {
    return {true, EGRESS_REASON_RULE, entries[tcp.policy].policy->id, RuleText(port, "tcp", "")};
  }
  const Best cover = index->https.Covering(address);
  if (!cover.found()) return decision;
  decision.policy = entries[cover.policy].policy->id;
  const auto name = NormalizeServerName(sni);
  decision.reason = name ? EGRESS_REASON_SNI_MISMATCH : EGRESS_REASON_NO_SNI;
  if (!name) return decision;
  Grant grant;
  index->https.ForEachNaming(*name, IsAddressLiteral(*name), [&](std::uint32_t number, std::string_view host) {
    if (!entries[number].addresses.Contains(address)) return true;
    grant.Offer(number, host);
    return false;
  });
  if (!grant.best.found()) return decision;
  return {true, EGRESS_REASON_RULE, entries[grant.best.policy].policy->id, RuleText(port, "https", grant.host)};
}

Decision PolicyIndex::Http(const Address& address, std::uint16_t port, const HttpRequest& request) const {
  Decision first = HttpForm(address, port, request);
  const AddressForms forms(address);
  for (const Address* form = forms.begin() + 1; first.allowed && form != forms.end(); ++form) {
    Decision decision = HttpForm(*form, port, request);
    if (!decision.allowed) return decision;
  }
  return first;
}

Decision PolicyIndex::HttpForm(const Address& address, std::uint16_t port, const HttpRequest& request) const {
  Decision decision;
  const PortIndex* index = impl_->Find(port);
  if (index == nullptr) return decision;
  const auto& entries = impl_->entries;
  const auto authority = ParseAuthority(request.authority);
  if (!authority || !IsPlainPath(request.path)) {
    decision.reason = EGRESS_REASON_HTTP_MALFORMED;
    return decision;
  }
  if (const Best tcp = index->tcp.Covering(address); tcp.found()) {
    return {true, EGRESS_REASON_RULE, entries[tcp.policy].policy->id, RuleText(port, "tcp", "")};
  }
  const Best cover = index->http.Covering(address);
  if (!cover.found()) return decision;
  decision.policy = entries[cover.policy].policy->id;
  decision.reason = EGRESS_REASON_HTTP_HOST;
  if (authority->port && *authority->port != port) return decision;

  const std::string_view path = request.path.substr(0, request.path.find_first_of("?#"));
  Grant grant;
  Best listed;  // its host matches, whether a route does or not
  index->http.ForEachNaming(authority->host, IsAddressLiteral(authority->host),
                            [&](std::uint32_t number, std::string_view host) {
                              if (number >= grant.best.policy) return false;
                              if (!entries[number].addresses.Contains(address)) return true;
                              listed.Offer(number);
                              const std::string* route = impl_->Allows(entries[number], path, request);
                              if (route == nullptr) return true;
                              grant.Offer(number, host, *route);
                              return false;
                            });
  if (grant.best.found()) {
    return {true, EGRESS_REASON_RULE, entries[grant.best.policy].policy->id,
            RuleText(port, "http", grant.host, grant.route)};
  }
  if (listed.found()) {
    decision.policy = entries[listed.policy].policy->id;
    decision.reason = EGRESS_REASON_HTTP_ROUTE;
  }
  return decision;
}

const Limits* PolicyIndex::LimitsOf(const ObjectId& policy) const {
  const auto& policies = impl_->policies;
  const auto found = std::lower_bound(policies.begin(), policies.end(), policy,
                                      [](const PolicyPtr& a, const ObjectId& id) { return a->id < id; });
  return found == policies.end() || (*found)->id != policy ? nullptr : &(*found)->limits;
}

}  // namespace egress::policy
