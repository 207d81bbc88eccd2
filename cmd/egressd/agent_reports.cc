// What the agent tells of itself: events, counters, status.
#include <arpa/inet.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>

#include "agent/policy/decide.h"
#include "cmd/egressd/agent.h"

namespace egress::agent {
namespace {

constexpr std::size_t kMaxProblems = 50;

const char* ProtocolLabel(std::uint8_t protocol) {
  switch (protocol) {
    case EGRESS_TCP: return "tcp";
    case EGRESS_HTTPS: return "https";
    case EGRESS_HTTP: return "http";
    case EGRESS_UDP: return "udp";
    case EGRESS_ICMP: return "icmp";
    default: return "other";
  }
}

const char* VerdictName(std::uint8_t verdict) {
  return verdict == EGRESS_ALLOW ? "allow" : verdict == EGRESS_AUDIT ? "audit" : "deny";
}

const char* HookName(std::uint8_t hook) {
  switch (hook) {
    case EGRESS_HOOK_CONNECT: return "connect";
    case EGRESS_HOOK_SEND: return "send";
    case EGRESS_HOOK_BOUNDARY: return "boundary";
    default: return "change";
  }
}

// The kernel counts since boot, people since 1970.
std::chrono::system_clock::time_point WallTime(std::uint64_t boot_ns) {
  timespec now = {};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  const std::int64_t age =
      static_cast<std::int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec - static_cast<std::int64_t>(boot_ns);
  return std::chrono::system_clock::now() -
         std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::nanoseconds(age));
}

}  // namespace

void Agent::Periodic() {
  const std::uint64_t lost = datapath::ReadEventsLost(enforcer_->kernel());
  if (lost > events_lost_) metrics_.CountEventsLost(lost - events_lost_);
  events_lost_ = lost;
  const auto count = store_.EgressCount();
  metrics_.SetPolicies(count.valid, count.invalid);
  int governed = 0, ungoverned = 0;
  for (const auto& view : store_.Pods()) (view.governed ? governed : ungoverned)++;
  metrics_.SetPods(governed, ungoverned);
  if (kubernetes_) {
    metrics_.SetSourceAge(kubernetes_->Age().count());
    TellUnguarded();
    if (!ready_once_ && !NotReady() && cni_ && cni_->in_place()) {
      ready_once_ = true;
      TakeOffTaint();
    }
  }
}

void Agent::OnKernelEvent(const event& one) {
  report::Event event;
  event.time = WallTime(one.time_ns);
  const auto pod = pod_names_.find(one.cookie);
  if (pod != pod_names_.end()) event.pod = pod->second.ToString();
  event.verdict = VerdictName(one.verdict);
  event.reason = policy::ReasonName(static_cast<egress_reason>(one.reason));
  event.protocol = ProtocolLabel(one.protocol);
  const Address none;
  const Address source = datapath::AddressOf(one.source);
  if (source != none) event.source = source.ToString();
  event.destination = datapath::AddressOf(one.destination).ToString();
  event.port = ntohs(one.port);
  event.sni.assign(one.sni, ::strnlen(one.sni, sizeof one.sni));
  if (one.policy != 0) event.policy = enforcer_->rules().PolicyName(one.policy);
  event.hook = HookName(one.hook);
  events_.Add(std::move(event));
}

void Agent::OnProxyEvents(const nlohmann::json& message) {
  const auto lost = message.value("lost", std::uint64_t{0});
  if (lost > 0) metrics_.CountEventsLost(lost);
  for (const auto& one : message.value("events", nlohmann::json::array())) {
    report::Event event;
    event.time = std::chrono::system_clock::now();
    const auto slot = one.value("slot", 0U);
    for (const auto& [cookie, pod] : pods_->present()) {
      if (enforcer_->pods().SlotOf(cookie) == slot) event.pod = pod.object->id.ToString();
    }
    event.verdict = one.value("verdict", "");
    event.reason = one.value("reason", "");
    event.protocol = "http";
    event.source = one.value("source", "");
    event.destination = one.value("destination", "");
    event.port = one.value("port", 0);
    event.host = one.value("host", "");
    event.method = one.value("method", "");
    event.path = one.value("path", "");
    event.policy = one.value("policy", "");
    event.hook = "proxy";
    events_.Add(std::move(event));
  }
}

void Agent::OnProxyRequests(const nlohmann::json& counts) {
  for (const auto& one : counts) {
    const auto slot = one.value("slot", 0U);
    for (const auto& [cookie, pod] : pods_->present()) {
      if (enforcer_->pods().SlotOf(cookie) != slot) continue;
      metrics_.CountHttpRequests(pod.object->service_account, one.value("code", 0), one.value("verdict", ""),
                                 one.value("count", std::uint64_t{0}));
    }
  }
}

void Agent::Problem(const std::string& text) {
  spdlog::error("{}", text);
  // With its time: what has passed since is still worth knowing, and must not look like now.
  problems_.push_back(report::FormatTime(std::chrono::system_clock::now()) + " " + text);
  if (problems_.size() > kMaxProblems) problems_.pop_front();
}

void Agent::LogFindings() {
  auto findings = store_.Findings();
  for (const auto& finding : findings) {
    if (std::binary_search(logged_findings_.begin(), logged_findings_.end(), finding)) continue;
    spdlog::log(finding.severity == policy::Severity::kError ? spdlog::level::err : spdlog::level::warn, "{}",
                finding.ToString());
  }
  if (kubernetes_) TellFindings(findings);
  std::sort(findings.begin(), findings.end());
  logged_findings_ = std::move(findings);
}

report::AgentStatus Agent::Status() const {
  report::AgentStatus status;
  status.version = EGRESS_VERSION;
  FillSource(status);
  status.ready = !NotReady();
  status.started = report::FormatTime(started_);
  for (const auto& view : store_.Pods()) (view.governed ? status.pods_governed : status.pods_ungoverned)++;
  const auto count = store_.EgressCount();
  status.policies_valid = count.valid;
  status.policies_invalid = count.invalid;
  status.findings = store_.Findings();
  for (const auto& [program, where] : enforcer_->attachments().List()) status.programs.push_back({program, where});
  status.features["boundary"] = enforcer_->attachments().uses_tcx() ? "tcx" : "clsact (the kernel has no tcx)";
  status.proxy = proxy_->Status();
  status.problems.assign(problems_.begin(), problems_.end());
  if (cni_) {
    for (const std::string& problem : cni_->Problems()) status.problems.push_back(problem);
  }
  for (const auto& [id, why] : pods_->waiting()) status.warnings.push_back(id.ToString() + " is waited for: " + why);
  for (auto& warning : PodWarnings(WarningInput())) status.warnings.push_back(std::move(warning));
  status.enforcement = options_.config.enforcement;
  status.generation = enforcer_->generation();
  for (const auto& use : datapath::ReadMapUse(enforcer_->kernel())) {
    status.maps.push_back({use.name, use.entries, use.capacity});
  }
  return status;
}

PodWarningInput Agent::WarningInput() const {
  PodWarningInput input;
  input.pods = store_.Pods();
  input.settings = &options_.config.settings;
  input.resolvers = [this](const policy::Pod& pod) { return pods_->ResolversOf(pod); };
  input.has_http_rules = [this](const policy::Pod& pod) {
    const auto policies = store_.PoliciesOf(pod.service_account);
    return std::any_of(policies.begin(), policies.end(), [](const policy::PolicyPtr& policy) {
      return std::any_of(policy->ports.begin(), policy->ports.end(),
                         [](const policy::Port& port) { return port.protocol == policy::Protocol::kHttp; });
    });
  };
  return input;
}

std::vector<report::PodStatus> Agent::PodStatuses() const {
  std::map<policy::ObjectId, const NodePod*> present;
  std::vector<const NodePod*> outlived;  // a successor may bear the name of one
  for (const auto& [cookie, pod] : pods_->present()) {
    if (pod.object_gone) {
      outlived.push_back(&pod);
    } else {
      present[pod.object->id] = &pod;
    }
  }
  std::vector<report::PodStatus> list;
  const auto has_http_rules = WarningInput().has_http_rules;
  const auto add = [&](const policy::Pod& object, bool governed, const std::string& why, const NodePod* pod) {
    report::PodStatus status;
    status.pod = object.id.ToString();
    status.governed = governed;
    status.why = why;
    status.service_account = object.service_account.ToString();
    status.netns = pod != nullptr ? pod->netns_path : object.netns_path;
    status.cgroup = pods_->CgroupOf(object);
    for (const auto& address : pod != nullptr ? pod->interface.addresses : object.addresses) {
      status.addresses.push_back(address.ToString());
    }
    if (pod != nullptr) {
      status.interface = pod->interface.host_name;
      status.state = pod->interface.guarded ? "guarded" : "unguarded";
      status.note = pod->object_gone ? "its object is gone, its namespace is not" : pod->interface.why_unguarded;
      if (status.note.empty() && object.net_admin && has_http_rules(object)) {
        status.note = "it has CAP_NET_ADMIN: http rules hold it to address and port only";
      }
    } else if (governed) {
      status.state = "waiting";
      const auto waits = pods_->waiting().find(object.id);
      status.note = waits != pods_->waiting().end() ? waits->second : "it has ended";
    }
    status.policies = static_cast<int>(enforcer_->PolicyCount(object.service_account));
    list.push_back(std::move(status));
  };
  for (const auto& view : store_.Pods()) {
    if (!view.pod) continue;
    const auto pod = present.find(view.pod->id);
    add(*view.pod, view.governed, view.why, pod != present.end() ? pod->second : nullptr);
    if (pod != present.end()) present.erase(pod);
  }
  for (const auto& [id, pod] : present) add(*pod->object, true, "", pod);
  for (const NodePod* pod : outlived) add(*pod->object, true, "", pod);
  return list;
}

std::vector<report::ConnectionCount> Agent::ConnectionCounts() const {
  std::map<std::uint32_t, std::pair<std::uint64_t, policy::ServiceAccount>> slots;
  for (const auto& [cookie, pod] : pods_->present()) {
    if (const auto slot = enforcer_->pods().SlotOf(cookie)) slots[*slot] = {cookie, pod.object->service_account};
  }
  std::vector<report::ConnectionCount> counts;
  for (const auto& [key, total] : datapath::ReadStats(enforcer_->kernel())) {
    const auto slot = slots.find(key.slot);
    if (slot == slots.end()) continue;
    counts.push_back({slot->second.first, slot->second.second, static_cast<egress_protocol>(key.protocol),
                      static_cast<egress_verdict>(key.verdict), static_cast<egress_reason>(key.reason), total});
  }
  return counts;
}

}  // namespace egress::agent
