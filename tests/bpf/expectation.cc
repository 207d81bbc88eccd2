#include "tests/bpf/expectation.h"

#include <arpa/inet.h>

#include <algorithm>
#include <optional>
#include <sstream>

#include "agent/base/address_forms.h"
#include "agent/policy/host.h"
#include "agent/policy/rank.h"

namespace egress::test {
namespace {

struct Expected {
  egress_socket_kind kind = EGRESS_SOCKET_DENIED;
  egress_reason reason = EGRESS_REASON_POLICY;
  std::optional<std::uint8_t> protocols;
  std::optional<std::string> policy;   // that decided
  std::optional<std::string> counted;  // against whose limit the connection counts; "": none
};

bool IsPodItself(const FleetPod& pod, const Address& address) {
  static const Address kAny4 = *ParseAddress("0.0.0.0");
  static const Address kAny6 = *ParseAddress("::");
  static const Address kLoopback6 = *ParseAddress("::1");
  return address == kAny4 || address == kAny6 || address == kLoopback6 ||
         (address.IsV4() && address.bytes[12] == 127) ||
         std::find(pod.own.begin(), pod.own.end(), address) != pod.own.end();
}

// Of the tcp policies that cover one form of the destination: where all have limits, the widest few are counted, and
// one with room is enough.
Expected ExpectTcpRule(const PodFleet& fleet, const FleetPod& pod, const Question& question, const Address& form,
                       const policy::ObjectId& best) {
  std::vector<policy::PolicyPtr> covering;
  for (const auto& policy : pod.seen->policies) {
    const bool port = std::any_of(policy->ports.begin(), policy->ports.end(), [&](const policy::Port& entry) {
      return entry.number == question.port && entry.protocol >= policy::Protocol::kTcp;
    });
    const bool address = std::any_of(policy->cidrs.begin(), policy->cidrs.end(),
                                     [&](const Prefix& prefix) { return prefix.Contains(form); });
    if (port && address) covering.push_back(policy);
  }
  std::sort(covering.begin(), covering.end(), [](const auto& a, const auto& b) { return PreferredOver(*a, *b); });
  Expected expected{EGRESS_SOCKET_ALLOWED, EGRESS_REASON_RULE, {}, best.ToString(), ""};
  if (!covering.front()->limits.max_connections) return expected;
  if (covering.size() > EGRESS_MAX_TCP_POLICIES) covering.resize(EGRESS_MAX_TCP_POLICIES);
  for (const auto& policy : covering) {
    if (!fleet.HasRoom(pod, policy->id)) continue;
    expected.policy = expected.counted = policy->id.ToString();
    return expected;
  }
  return {EGRESS_SOCKET_DENIED, EGRESS_REASON_LIMIT, {}, best.ToString(), ""};
}

// Any bytes may go to each form; by tcp rules to those that are governed.
Expected ExpectAnyBytes(const PodFleet& fleet, const FleetPod& pod, const Question& question) {
  std::optional<Expected> joined;
  for (const Address& form : AddressForms(question.destination)) {
    const auto decision = pod.seen->index.ConnectForm(pod.seen->network, form, question.port);
    if (decision.reason != EGRESS_REASON_RULE) continue;
    const Expected one = ExpectTcpRule(fleet, pod, question, form, *decision.policy);
    if (!joined) joined = one;
    if (one.reason == EGRESS_REASON_LIMIT) {
      joined->kind = one.kind;
      joined->reason = one.reason;
    }
    if (joined->counted == "") joined->counted = one.counted;
  }
  if (joined->reason == EGRESS_REASON_LIMIT) joined->counted = "";
  return *joined;
}

// Of an unguarded pod: what is of the mesh, and nothing else.
policy::NetworkPolicy MeshAlone(const policy::NetworkPolicy& network) {
  policy::NetworkPolicy mesh;
  mesh.mesh = network.mesh;
  mesh.open = network.open;
  mesh.policies_enabled = false;
  return mesh;
}

Expected Expect(const PodFleet& fleet, const FleetPod& pod, const Question& question) {
  const View& view = *pod.seen;
  if (!view.network.open && IsPodItself(pod, question.destination)) {
    return {EGRESS_SOCKET_ALLOWED, EGRESS_REASON_MESH, 0, {}, ""};
  }
  const auto network = pod.unguarded ? MeshAlone(view.network) : view.network;
  const auto decision = view.index.Connect(network, question.destination, question.port);
  if (!decision.allowed) return {EGRESS_SOCKET_DENIED, decision.reason, 0, {}, ""};
  if (decision.reason != EGRESS_REASON_RULE) return {EGRESS_SOCKET_ALLOWED, decision.reason, 0, {}, ""};
  if (decision.any_bytes) return ExpectAnyBytes(fleet, pod, question);
  const bool http = (decision.protocols & EGRESS_HTTP) != 0;
  return {http ? EGRESS_SOCKET_REDIRECTED : EGRESS_SOCKET_TLS, EGRESS_REASON_RULE, decision.protocols, {}, ""};
}

egress_reason ExpectDatagram(const FleetPod& pod, const Question& question) {
  const View& view = *pod.seen;
  if (!view.network.open && IsPodItself(pod, question.destination)) return EGRESS_REASON_MESH;
  const auto network = pod.unguarded ? MeshAlone(view.datagram_network) : view.datagram_network;
  std::optional<egress_reason> joined;
  for (const Address& form : AddressForms(question.destination)) {
    auto decision = view.index.ConnectForm(network, form, question.port);
    if (decision.reason == EGRESS_REASON_DNS && question.protocol != IPPROTO_UDP) decision.allowed = false;
    const bool by_rule = !pod.unguarded && view.network.other_protocols_allowed;
    if (!decision.allowed && !by_rule) return EGRESS_REASON_NONE;
    if (!decision.allowed) joined = EGRESS_REASON_RULE;
    if (!joined) joined = decision.reason;
  }
  return *joined;
}

// The name that the kernel has listed must be listed by the policy it names, and by none where it has found none.
std::string NameDifference(const PodFleet& fleet, const FleetPod& pod, const Question& question,
                           const judge_probe& answer) {
  const auto decision = pod.seen->index.Tls(pod.seen->network, question.destination, question.port, question.name);
  if (decision.allowed != (answer.named != 0)) {
    return decision.allowed ? "the kernel does not list the name; " + decision.rule : "the kernel lists the name";
  }
  if (!decision.allowed) return "";
  const std::string named = fleet.PolicyName(answer.named);
  for (const auto& policy : pod.seen->policies) {
    if (policy->id.ToString() != named) continue;
    const policy::PolicyIndex alone({policy});
    const AddressForms forms(question.destination);
    const bool lists = std::any_of(forms.begin(), forms.end(), [&](const Address& form) {
      return alone.TlsForm(form, question.port, question.name).allowed;
    });
    return lists ? "" : named + " does not list it";
  }
  return "the kernel names policy " + std::to_string(answer.named) + " " + named;
}

template <typename T>
void Compare(std::ostringstream& text, const char* what, const T& kernel, const T& wanted) {
  if (kernel != wanted) text << what << " is " << kernel << ", expected " << wanted << "; ";
}

}  // namespace

judge_probe ProbeOf(const FleetPod& pod, const Question& question) {
  judge_probe probe{};
  probe.cookie = pod.cookie;
  std::copy(question.destination.bytes.begin(), question.destination.bytes.end(), probe.destination);
  probe.port = htons(question.port);
  probe.protocol = question.protocol;
  if (const auto name = policy::NormalizeServerName(question.name)) {
    name->copy(probe.hello.name, sizeof probe.hello.name);
    probe.hello.name_length = static_cast<__u16>(name->size());
  }
  return probe;
}

std::string Difference(const PodFleet& fleet, const FleetPod& pod, const Question& question,
                       const judge_probe& answer) {
  std::ostringstream text;
  if (answer.governed == 0) return "the kernel does not know the pod";
  if (question.protocol != IPPROTO_TCP) {
    Compare(text, "reason", static_cast<int>(answer.packet_reason), static_cast<int>(ExpectDatagram(pod, question)));
    return text.str();
  }
  const Expected expected = Expect(fleet, pod, question);
  Compare(text, "kind", static_cast<int>(answer.kind), static_cast<int>(expected.kind));
  Compare(text, "reason", static_cast<int>(answer.reason), static_cast<int>(expected.reason));
  if (expected.protocols) Compare<int>(text, "protocols", answer.protocols, *expected.protocols);
  if (expected.policy) Compare(text, "policy", fleet.PolicyName(answer.policy), *expected.policy);
  if (expected.counted) Compare(text, "counted", fleet.PolicyName(answer.counted), *expected.counted);
  const bool named = (expected.protocols.value_or(0) & EGRESS_HTTPS) != 0;
  if (named && answer.hello.name_length != 0) text << NameDifference(fleet, pod, question, answer);
  if (named && answer.hello.name_length == 0 &&
      pod.seen->index.Tls(pod.seen->network, question.destination, question.port, question.name).allowed) {
    text << "a name that no ClientHello can bear is allowed";
  }
  return text.str();
}

bool Passes(const judge_probe& answer) {
  if (answer.protocol != IPPROTO_TCP) return answer.packet_reason != EGRESS_REASON_NONE;
  if (answer.kind == EGRESS_SOCKET_TLS) return answer.named != 0;
  return answer.kind == EGRESS_SOCKET_ALLOWED || answer.kind == EGRESS_SOCKET_REDIRECTED;
}

}  // namespace egress::test
