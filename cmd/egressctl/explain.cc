#include "cmd/egressctl/explain.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace egress::ctl {

using nlohmann::json;

namespace {

bool IsLoopback(const Address& address) {
  if (address.IsV4()) return address.bytes[12] == 127;
  return address == *ParseAddress("::1");
}

std::string Trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t") - first + 1));
}

bool SameWithoutCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// The authority of an http URL to `target` as a client writes it: port 80 is left out.
std::string AuthorityOf(const Target& target) {
  const std::string host = target.address && !target.address->IsV4() ? "[" + target.host + "]" : target.host;
  return target.port == 80 ? host : host + ":" + std::to_string(target.port);
}

bool IsLinkLocal(const Address& address) {
  static const Prefix kV4 = *ParsePrefix("169.254.0.0/16");
  static const Prefix kV6 = *ParsePrefix("fe80::/10");
  return kV4.Contains(address) || kV6.Contains(address);
}

bool Covers(const policy::EffectivePolicy& policy, const Address& address) {
  return std::any_of(policy.cidrs.begin(), policy.cidrs.end(),
                     [&](const Prefix& cidr) { return cidr.Contains(address); });
}

policy::Decision Denied(egress_reason reason, const policy::ConnectDecision& connect) {
  return {false, reason, connect.policy, ""};
}

}  // namespace

Result<Target> ParseTarget(const std::string& text) {
  const Error wrong{"'" + text + "' is no destination: write HOST:PORT, ADDRESS:PORT or [IPV6]:PORT"};
  const auto colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return wrong;
  Target target;
  target.host = text.substr(0, colon);
  const bool brackets = target.host.front() == '[' && target.host.back() == ']';
  if (brackets) target.host = target.host.substr(1, target.host.size() - 2);
  target.address = ParseAddress(target.host);
  const bool colons = target.host.find(':') != std::string::npos;
  if (brackets != colons || (colons && !target.address)) return wrong;
  int port = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, port);
  if (error != std::errc() || rest != end || port < 1 || port > 65535) return wrong;
  target.port = static_cast<std::uint16_t>(port);
  return target;
}

Result<RequestQuestion> ParseRequest(const std::string& text) {
  const Error wrong{"'" + text + "' is no request: write \"METHOD URL\", as \"GET http://httpbin.org/get\""};
  const auto blank = text.find(' ');
  if (blank == std::string::npos || blank == 0) return wrong;
  RequestQuestion request;
  request.method = text.substr(0, blank);
  std::string url = Trimmed(std::string_view(text).substr(blank));
  url = url.substr(0, url.find('#'));
  if (url.empty() || url.find(' ') != std::string::npos) return wrong;
  if (url.front() == '/') {
    request.path = url;
    return request;
  }
  const auto scheme = url.find("://");
  if (scheme == std::string::npos) return wrong;
  const bool http = SameWithoutCase(url.substr(0, scheme), "http");
  request.tls = SameWithoutCase(url.substr(0, scheme), "https");
  if (!http && !request.tls) return wrong;
  const std::string rest = url.substr(scheme + 3);
  const auto end = rest.find_first_of("/?");
  request.authority = rest.substr(0, end);
  request.path = end == std::string::npos ? "/" : rest.substr(end);
  if (request.path.front() == '?') request.path = "/" + request.path;
  if (request.authority.empty()) return wrong;
  return request;
}

Result<Header> ParseHeader(const std::string& text) {
  const auto colon = text.find(':');
  if (colon == std::string::npos || colon == 0) return Error{"'" + text + "' is no header: write \"name: value\""};
  return Header{Trimmed(std::string_view(text).substr(0, colon)), Trimmed(std::string_view(text).substr(colon + 1))};
}

json Answer::ToJson() const {
  return {{"address", address}, {"verdict", verdict}, {"reason", reason},
          {"policy", policy},   {"rule", rule},       {"note", note}};
}

Explainer::Explainer(datapath::PodPolicy pod) : pod_(std::move(pod)), index_(pod_.policies) {}

// Whether the pod has an address from which it can reach `address`. Without, connect() fails as it would without
// the agent, and nothing goes to the proxy.
bool Explainer::HasFamilyOf(const Address& address) const {
  const auto own = pod_.pod.addresses();
  return std::any_of(own.begin(), own.end(), [&](const Address& candidate) {
    return candidate.IsV4() == address.IsV4() && !IsLinkLocal(candidate);
  });
}

// What has to be known beside the verdict.
std::string Explainer::Notes(const Address& address, const policy::Decision& decision, std::string note) const {
  const auto add = [&note](const std::string& more) { note += (note.empty() ? "" : "; ") + more; };
  const policy::Limits* limits = decision.allowed && decision.policy ? index_.LimitsOf(*decision.policy) : nullptr;
  if (limits != nullptr && *limits != policy::Limits{}) add("as far as the limits of the policy leave room");
  if (decision.reason != EGRESS_REASON_MESH && !HasFamilyOf(address)) {
    add(std::string("the pod has no IPv") + (address.IsV4() ? "4" : "6") + " address, so it cannot connect there");
  }
  return note;
}

Answer Explainer::MakeAnswer(const Address& address, const policy::Decision& decision, const std::string& note) const {
  Answer answer;
  answer.address = address.ToString();
  answer.verdict = decision.allowed ? "allow" : pod_.network.audit ? "audit" : "deny";
  answer.reason = policy::ReasonName(decision.reason);
  if (decision.policy) answer.policy = decision.policy->ToString();
  answer.rule = decision.rule;
  answer.note = Notes(address, decision, note);
  return answer;
}

Answer Explainer::Decide(const Address& address, const Question& question) const {
  const auto own = pod_.pod.addresses();
  const bool own_address = std::find(own.begin(), own.end(), address) != own.end();
  if (!pod_.network.open && (own_address || IsLoopback(address))) {
    return MakeAnswer(address, {true, EGRESS_REASON_MESH, std::nullopt, "an address of the pod itself"});
  }
  const policy::ConnectDecision connect = index_.Connect(pod_.network, address, question.target.port);
  if (!connect.allowed) return MakeAnswer(address, {false, connect.reason, connect.policy, ""});
  if (connect.any_bytes) {
    const std::string rule =
        connect.policy ? "port " + std::to_string(question.target.port) + " tcp, any bytes" : std::string();
    return MakeAnswer(address, {true, connect.reason, connect.policy, rule});
  }
  const __be16 proxy = address.IsV4() ? pod_.pod.pod.proxy_port4 : pod_.pod.pod.proxy_port6;
  if ((connect.protocols & EGRESS_HTTP) != 0 && proxy == 0 && !pod_.network.audit && HasFamilyOf(address)) {
    return MakeAnswer(address, Denied(EGRESS_REASON_PROXY_UNAVAILABLE, connect),
                      "rules allow http here, but no proxy runs: see egressctl status");
  }
  return DecideJudged(address, question, connect);
}

// An https or http rule covers the address and port: what the client says decides.
Answer Explainer::DecideJudged(const Address& address, const Question& question,
                               const policy::ConnectDecision& connect) const {
  const std::string name = question.target.address ? "" : question.target.host;
  const bool https = (connect.protocols & EGRESS_HTTPS) != 0;
  if (question.sni && (https || !question.request)) {
    return MakeAnswer(address, Tls(address, question, connect.protocols, *question.sni));
  }
  if (question.request && question.request->tls) {
    const auto authority = policy::ParseAuthority(question.request->authority);
    const std::string sni = authority ? authority->host : question.request->authority;
    return MakeAnswer(address, Tls(address, question, connect.protocols, sni),
                      "TLS is not opened: the name decides, not the request in it");
  }
  if (question.request) {
    RequestQuestion request = *question.request;
    if (request.authority.empty()) request.authority = AuthorityOf(question.target);
    return MakeAnswer(address, Http(address, question, connect.protocols, request));
  }
  if (name.empty()) return Unnamed(address, question, connect);
  const policy::Decision tls = Tls(address, question, connect.protocols, name);
  if ((connect.protocols & EGRESS_HTTP) == 0) return MakeAnswer(address, tls, "taken for TLS with the SNI " + name);
  const RequestQuestion get{"GET", AuthorityOf(question.target), "/", false};
  const policy::Decision http = Http(address, question, connect.protocols, get);
  const std::string http_note = "taken for the request GET http://" + get.authority + "/: --http asks for another";
  if (!https || !http.allowed) return MakeAnswer(address, http, http_note);
  return MakeAnswer(address, tls, "http passes too; taken for TLS with the SNI " + name);
}

policy::Decision Explainer::Tls(const Address& address, const Question& question, std::uint8_t protocols,
                                const std::string& sni) const {
  if ((protocols & EGRESS_HTTPS) == 0) {  // TLS on a port that is http only does not parse
    return {false, EGRESS_REASON_HTTP_MALFORMED, std::nullopt, ""};
  }
  if (sni.empty()) return {false, EGRESS_REASON_NO_SNI, std::nullopt, ""};
  return index_.Tls(pod_.network, address, question.target.port, sni);
}

policy::Decision Explainer::Http(const Address& address, const Question& question, std::uint8_t protocols,
                                 const RequestQuestion& request) const {
  if ((protocols & EGRESS_HTTP) == 0) return {false, EGRESS_REASON_NOT_TLS, std::nullopt, ""};
  std::string authority = request.authority;
  std::vector<std::pair<std::string_view, std::string_view>> headers;
  for (const auto& [header, value] : question.headers) {
    if (SameWithoutCase(header, "host")) {
      authority = value;
    } else {
      headers.emplace_back(header, value);
    }
  }
  headers.emplace_back("Host", authority);
  if (!policy::ParseAuthority(authority)) return {false, EGRESS_REASON_HTTP_MALFORMED, std::nullopt, ""};
  return index_.Http(address, question.target.port, {request.method, authority, request.path, headers});
}

// Neither a name nor a request: not any bytes would pass, so this is denied; the names that would are told.
Answer Explainer::Unnamed(const Address& address, const Question& question,
                          const policy::ConnectDecision& connect) const {
  std::set<std::string> names;
  for (const policy::PolicyPtr& policy : pod_.policies) {
    if (!Covers(*policy, address)) continue;
    for (const policy::Port& port : policy->ports) {
      if (port.number != question.target.port) continue;
      names.insert(policy->hosts.begin(), policy->hosts.end());
    }
  }
  std::string note = "only these names pass:";
  for (const std::string& name : names) note += (name == *names.begin() ? " " : ", ") + name;
  note += "; ask with --sni or --http";
  const bool https = (connect.protocols & EGRESS_HTTPS) != 0;
  return MakeAnswer(address, Denied(https ? EGRESS_REASON_NO_SNI : EGRESS_REASON_HTTP_HOST, connect), note);
}

}  // namespace egress::ctl
