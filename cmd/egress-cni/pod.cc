#include "cmd/egress-cni/pod.h"

#include <algorithm>
#include <cstdio>

#include "agent/cni/known.h"
#include "cmd/egress-cni/agent.h"
#include "cmd/egress-cni/deny.h"
#include "cmd/egress-cni/veth.h"

namespace egress::cni {
namespace {

constexpr auto kAddTime = std::chrono::milliseconds(1700);
constexpr auto kUnheldTime = std::chrono::milliseconds(1000);  // of it, for an agent that governs the pod in time
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

Result<std::string> Ask(const Call& call, const Request& request, Deadline deadline) {
  const auto agent = ConnectAgent(call.socket, deadline);
  if (!agent) return Error{"the agent is not there (" + agent.error().message + ")"};
  if (!agent->valid()) return Error{"the agent does not take connections"};
  return AskAgent(*agent, request, deadline);
}

Result<void> HoldToMesh(const Result<Veth>& veth, const Request& request, const Known& known) {
  if (!veth) return veth.error();
  return AttachDeny(*veth, request, known.mesh_cidrs);
}

}  // namespace

void AddPod(const Call& call) {
  const Deadline start = std::chrono::steady_clock::now();
  if (call.pod_namespace.empty()) return;  // a container of no pod: nothing of ours
  Known known;
  if (auto read = ReadKnown(call.known)) {
    known = *std::move(read);
  } else {
    Log(call, "what the agent knew last is lost: " + read.error().message);
  }
  const auto veth = FindVeth(call.environment.netns, call.environment.interface);
  Request request = RequestOf(call);
  if (veth) request.interface = veth->host_name;
  const bool unheld = call.audit || EnrolmentOf(call, known) == Enrolment::kNotEnrolled;
  // Nothing of the pod runs before this has ended, so for as long as the agent may answer yet there is nothing to hold:
  // each program that comes or goes costs all starts of the node a grace period of RCU.
  auto answer = Ask(call, request, start + (unheld ? kAddTime : kUnheldTime));
  if (answer) return;
  if (unheld) return Log(call, answer.error().message + ": it starts unheld");
  const auto held = HoldToMesh(veth, request, known);
  if (!held) Log(call, "it cannot be held to the mesh: " + held.error().message);
  // The agent takes the program away with its answer. It is asked again, as it may have given one without the program;
  // an agent that is not there yet looks for the program once it listens. So it is not missed by both.
  answer = Ask(call, request, start + kAddTime);
  if (!answer) Log(call, answer.error().message + (held ? ": it is held to the mesh until the agent governs it" : ""));
}

void DeletePod(const Call& call) {
  const Deadline deadline = std::chrono::steady_clock::now() + kDeleteTime;
  if (!call.pod_namespace.empty()) (void)Ask(call, RequestOf(call), deadline);
}

}  // namespace egress::cni
