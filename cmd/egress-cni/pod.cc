#include "cmd/egress-cni/pod.h"

#include <algorithm>
#include <cstdio>
#include <optional>

#include "agent/cni/known.h"
#include "cmd/egress-cni/agent.h"
#include "cmd/egress-cni/deny.h"
#include "cmd/egress-cni/veth.h"

namespace egress::cni {
namespace {

constexpr auto kAddTime = std::chrono::milliseconds(1700);
constexpr auto kDeleteTime = std::chrono::milliseconds(300);

void Log(const Call& call, const std::string& text) {
  std::fprintf(stderr, "egress-cni: %s/%s: %s\n", call.pod_namespace.c_str(), call.pod_name.c_str(), text.c_str());
}

Request RequestOf(const Call& call) {
  Request request;
  request.command = call.environment.command;
  request.pod_namespace = call.pod_namespace;
  request.pod_name = call.pod_name;
  request.pod_uid = call.pod_uid;
  request.container_id = call.environment.container_id;
  request.netns = call.environment.netns;
  request.addresses = call.addresses;
  return request;
}

Enrolment EnrolmentOf(const Call& call, const Known& known) {
  const Enrolment enrolment = known.Of(call.pod_namespace);
  const bool system = std::ranges::count(call.system_namespaces, call.pod_namespace) > 0;
  return enrolment == Enrolment::kUnknown && system ? Enrolment::kNotEnrolled : enrolment;
}

std::optional<Deny> HoldToMesh(const Call& call, const Result<Veth>& veth, const Request& request, const Known& known) {
  if (!veth) {
    Log(call, veth.error().message + ": it cannot be held to the mesh before the agent governs it");
    return std::nullopt;
  }
  auto deny = Deny::Attach(*veth, request, known.mesh_cidrs);
  if (deny) return *std::move(deny);
  Log(call, "it cannot be held to the mesh: " + deny.error().message);
  return std::nullopt;
}

}  // namespace

void AddPod(const Call& call) {
  const Deadline deadline = std::chrono::steady_clock::now() + kAddTime;
  if (call.pod_namespace.empty()) return;  // a container of no pod: nothing of ours
  Known known;
  if (auto read = ReadKnown(call.known)) {
    known = *std::move(read);
  } else {
    Log(call, "what the agent knew last is lost: " + read.error().message);
  }
  const Enrolment enrolment = EnrolmentOf(call, known);
  auto agent = ConnectAgent(call.socket, deadline);
  if (!agent && enrolment == Enrolment::kNotEnrolled) return;
  const auto veth = FindVeth(call.environment.netns, call.environment.interface);
  Request request = RequestOf(call);
  if (veth) request.interface = veth->host_name;
  // Held before the agent is asked: it takes the program away when it has answered, so there is no gap to lose. An agent
  // that is not there yet looks for the program once it listens, so it must not be missed by both.
  auto deny = call.audit ? std::nullopt : HoldToMesh(call, veth, request, known);
  if (!agent) agent = ConnectAgent(call.socket, deadline);
  Result<std::string> answer = Error{"the agent does not take connections"};
  if (!agent) {
    answer = Error{"the agent is not there (" + agent.error().message + ")"};
  } else if (agent->valid()) {
    answer = AskAgent(*agent, request, deadline);
  }
  if (answer) return;
  if (enrolment != Enrolment::kNotEnrolled) {
    Log(call, answer.error().message + (deny ? ": it is held to the mesh until the agent governs it" : ""));
    return;
  }
  Log(call, answer.error().message + "; its namespace is known as not enrolled");
  if (!deny) return;
  if (auto done = deny->Remove(); !done) Log(call, done.error().message);
}

void DeletePod(const Call& call) {
  const Deadline deadline = std::chrono::steady_clock::now() + kDeleteTime;
  if (call.pod_namespace.empty()) return;
  const auto agent = ConnectAgent(call.socket, deadline);
  if (agent && agent->valid()) (void)AskAgent(*agent, RequestOf(call), deadline);
}

}  // namespace egress::cni
