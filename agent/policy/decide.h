// Decide: the verdict on a flow or request, with its reason, from the same policies that Compile() takes.
// `egressctl explain` and the proxy use it; a differential test holds it and the kernel's code together.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/result.h"
#include "agent/policy/effective.h"
#include "bpf/egress.h"

namespace egress::policy {

const char* ReasonName(egress_reason reason);  // "sni-mismatch"; see egress.h
std::optional<egress_reason> ReasonFromName(std::string_view name);

struct Decision {
  bool allowed = false;
  egress_reason reason = EGRESS_REASON_POLICY;
  std::optional<ObjectId> policy;  // that allows; where denied, one that came closest, if any
  std::string rule;                // of that policy, in words: "port 443 https, hosts httpbin.org"; may be empty
};

// What a connection to (address, port) is before any byte is seen.
struct ConnectDecision {
  bool allowed = false;  // the handshake may take place
  egress_reason reason = EGRESS_REASON_POLICY;
  bool any_bytes = false;      // tcp rule, mesh, exclusion ...: nothing more is judged
  std::uint8_t protocols = 0;  // else: EGRESS_HTTPS and/or EGRESS_HTTP, what has to be judged
  std::optional<ObjectId> policy;
};

struct HttpRequest {
  std::string_view method;
  std::string_view authority;  // as sent in Host (or absolute-form): "httpbin.org:80"
  std::string_view path;       // with query
  std::span<const std::pair<std::string_view, std::string_view>> headers;  // names in any case, as sent
};

// All policies of one ServiceAccount, indexed for lookups: ports -> hosts (exact, then wildcard suffixes) -> routes
// with compiled RE2. Immutable, safe to share between threads. Regexes have been checked by validation.
// What an address is asked for has to be allowed for each of its AddressForms; the reason of a denial, and the policy
// that allows, are those of the first form that they are true of.
class PolicyIndex {
 public:
  explicit PolicyIndex(std::vector<PolicyPtr> policies);
  ~PolicyIndex();

  ConnectDecision Connect(const NetworkPolicy& network, const Address& address, std::uint16_t port) const;
  // `sni` as in the ClientHello. Meant for connections whose ConnectDecision says EGRESS_HTTPS; so a form that `network`
  // opens is no matter where the address has others.
  Decision Tls(const NetworkPolicy& network, const Address& address, std::uint16_t port, std::string_view sni) const;
  // The verdict on one request of a connection to (address, port); reasons http-host, http-route, policy, and
  // http-malformed for an authority or path that is none. Every policy is considered (union); among those that allow,
  // one without limits is named. A header that a route asks for must match in every line that bears its name.
  Decision Http(const Address& address, std::uint16_t port, const HttpRequest& request) const;

  // The same for one form of an address alone. A union over several indexes has to be made for each form.
  ConnectDecision ConnectForm(const NetworkPolicy& network, const Address& form, std::uint16_t port) const;
  Decision TlsForm(const Address& form, std::uint16_t port, std::string_view sni) const;
  Decision HttpForm(const Address& form, std::uint16_t port, const HttpRequest& request) const;

  // Limits of a policy by id; nullptr if it is none of these.
  const Limits* LimitsOf(const ObjectId& policy) const;
  const std::vector<PolicyPtr>& policies() const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

// Host of an authority: lower case, one trailing dot removed, IPv6 without brackets in canonical text, and the port
// if given. nullopt: not a valid authority (userinfo, empty, bad port or brackets, blanks ...): 400.
struct Authority {
  std::string host;
  std::optional<std::uint16_t> port;
};
std::optional<Authority> ParseAuthority(std::string_view text);

// False for a path that servers might read as another one: `.` and `..` segments, encoded slashes, backslashes, dots
// or NULs. Such requests are refused (400), not normalised. The query does not matter.
bool IsPlainPath(std::string_view path);

}  // namespace egress::policy
