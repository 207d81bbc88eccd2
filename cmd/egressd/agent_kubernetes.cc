// Agent: the Kubernetes API as its source.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>

#include "agent/source/cluster_networks.h"
#include "agent/source/node_taint.h"
#include "cmd/egressd/agent.h"

namespace egress::agent {
namespace {

constexpr std::chrono::milliseconds kMeshLook = std::chrono::minutes(10);
constexpr std::chrono::milliseconds kMeshMissing = std::chrono::seconds(30);
constexpr std::chrono::milliseconds kTaintRetry = std::chrono::seconds(10);

// What the kubelet calls its node where it is not told otherwise.
std::string HostName() {
  char name[256] = "";
  (void)::gethostname(name, sizeof name - 1);
  std::string lower = name;
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

}  // namespace

Result<void> Agent::OpenKubernetes() {
  auto access = options_.kubeconfig.empty() ? source::InClusterAccess() : source::ReadKubeconfig({options_.kubeconfig});
  if (!access) return std::move(access).error();
  const std::string node = options_.node_name.empty() ? HostName() : options_.node_name;
  spdlog::info("reads policy and the pods of node {} from {}", node, access->server);
  kubernetes_ = std::make_unique<source::KubernetesSource>(
      loop_, *std::move(access), node,
      source::KubernetesSource::Callbacks{
          [this](const std::vector<source::ObjectChange>& changes, const source::Resource& resource) {
            OnObjects(changes, resource);
          },
          [this] { OnSynced(); },
          [](const std::string& text) { spdlog::warn("{}", text); }});  // status has them by kind
  event_writer_ = std::make_unique<source::EventWriter>(loop_, kubernetes_->http(), node,
                                                        [this](const std::string& text) { Problem(text); });
  return {};
}

void Agent::OnObjects(const std::vector<source::ObjectChange>& changes, const source::Resource& resource) {
  const auto read = std::chrono::steady_clock::now();
  for (const auto& [object, gone] : changes) {
    const std::string unit = resource.kind + "/" + object.id.ToString();
    if (gone) {
      store_.RemoveUnit(unit);
    } else {
      store_.SetUnit(unit, object.text, "");
    }
  }
  if (in_force_) Settle(read);
}

// Nothing has been changed so far: what an agent before this one has left is still in force.
void Agent::OnSynced() {
  if (auto done = ApplyFirst(); !done) {
    spdlog::critical("cannot bring policy into force: {}", done.error().message);
    failed_ = true;
    loop_.Stop();
    return;
  }
  spdlog::info("all policies and pods that the API server knows are in force");
  if (auto done = StartCni(); !done) {
    spdlog::critical("cannot start: {}", done.error().message);
    failed_ = true;
    loop_.Stop();
  }
}

Result<void> Agent::StartCni() {
  const auto refresh = [this](const policy::ObjectId& pod, std::chrono::milliseconds deadline,
                              std::function<void()> done) {
    auto open = std::make_shared<int>(2);
    const auto read = [open, done = std::move(done)](const Result<bool>&) {
      if (--*open == 0) done();  // what the API does not tell, what is known already has to do
    };
    kubernetes_->Refresh("Namespace", {"", pod.ns}, deadline, read);
    kubernetes_->Refresh("Pod", pod, deadline, read);
  };
  auto cni = Cni::Start(loop_, options_,
                        {store_, *enforcer_, *pods_, refresh, [this](const std::string& text) { Problem(text); }});
  if (!cni) return std::move(cni).error();
  cni_ = *std::move(cni);
  return {};
}

void Agent::FillSource(report::AgentStatus& status) const {
  if (!kubernetes_) {
    status.source = "manifests in " + options_.manifests;
    return;
  }
  status.source = "Kubernetes API at " + kubernetes_->server();
  status.age_seconds = kubernetes_->Age().count();
  for (const auto& kind : kubernetes_->Kinds()) {
    status.kinds.push_back({kind.kind, kind.state, kind.synced, kind.objects, kind.error});
  }
  status.warnings = mesh_warnings_;
}

// Until all has been read once, what an agent before this one has left stays in force as it is. TCP and TLS need nobody
// for that; for http the proxy is started with the rules that are pinned.
void Agent::ServeWhatIsInForce() {
  const auto leftovers = enforcer_->pods().Leftovers();
  if (leftovers.empty() || enforcer_->kernel().policy_replaced()) return;
  enforcer_->Adopt();
  KeepLeftovers();
  pending_ = {};  // nothing is to be changed by it
  proxy_started_ = true;
  proxy_->Start();
  for (const auto& [cookie, pod] : pods_->present()) proxy_->SetPod(pod);
}

// Without meshCIDRs every governed pod would lose its cluster: that is no configuration to bring into force.
void Agent::LookAtMesh() {
  if (options_.config.settings.mesh_cidrs.empty() && mesh_missing_.empty()) {
    mesh_missing_ = "meshCIDRs is empty in the configuration: set it to the networks of pods and Services";
    Problem(mesh_missing_);
  }
  source::ReadClusterNetworks(kubernetes_->http(), [this](const source::ClusterNetworks& networks) {
    const auto& mesh = options_.config.settings.mesh_cidrs;
    if (!mesh.empty()) {
      auto warnings = source::MeshWarnings(networks, mesh);
      for (const std::string& warning : warnings) {
        const bool known = std::find(mesh_warnings_.begin(), mesh_warnings_.end(), warning) != mesh_warnings_.end();
        if (!known) spdlog::warn("{}", warning);
      }
      mesh_warnings_ = std::move(warnings);
    } else if (const auto probable = source::ProbableMesh(networks); !probable.empty()) {
      std::string list;
      for (const Prefix& prefix : probable) list += (list.empty() ? "" : ", ") + prefix.ToString();
      const std::string hint = mesh_missing_.substr(0, mesh_missing_.find(';')) + "; they are probably [" + list + "]";
      if (hint != mesh_missing_) Problem(hint);
      mesh_missing_ = hint;
    }
    loop_.After(mesh.empty() ? kMeshMissing : kMeshLook, [this] { LookAtMesh(); });
  });
}

// One Event for an object, with all that is wrong with it; again when that changes.
void Agent::TellFindings(const std::vector<policy::Finding>& findings) {
  std::map<std::pair<std::string, policy::ObjectId>, std::string> wrong;
  for (const policy::Finding& finding : findings) {
    if (finding.severity != policy::Severity::kError || finding.object.name.empty()) continue;
    std::string& text = wrong[{finding.kind, finding.object}];
    text += (text.empty() ? "" : "; ") + (finding.field.empty() ? "" : finding.field + ": ") + finding.message;
  }
  for (const auto& [key, text] : wrong) {
    const auto& [kind, id] = key;
    const auto before = told_.find(key);
    if (before != told_.end() && before->second == text) continue;
    const source::Reflector* reflector = kubernetes_->Find(kind);
    if (reflector == nullptr || id.ns.empty()) continue;
    source::ObjectEvent event;
    event.api_version = reflector->resource().ApiVersion(reflector->version());
    event.kind = kind;
    event.object = id;
    event.uid = reflector->UidOf(id);
    event.resource_version = reflector->ResourceVersionOf(id);
    event.reason = "Invalid";
    event.message = text + (kind == "Egress" ? " (this Egress grants nothing until it is mended)" : "");
    event.every_node = kind != "Pod";
    event_writer_->Write(std::move(event));
  }
  told_ = std::move(wrong);
}

void Agent::TakeOffTaint() {
  source::RemoveNotReadyTaint(kubernetes_->http(), kubernetes_->node_name(), [this](const Result<void>& done) {
    if (done) return;
    Problem(done.error().message);
    loop_.After(kTaintRetry, [this] { TakeOffTaint(); });
  });
}

// What is unguarded for a moment only, while its interface is made, is no news.
void Agent::TellUnguarded() {
  std::map<std::uint64_t, std::string> unguarded;
  for (const auto& [cookie, pod] : pods_->present()) {
    if (pod.interface.guarded || pod.object_gone) continue;
    unguarded[cookie] = pod.interface.why_unguarded;
    const auto before = unguarded_.find(cookie);
    if (before == unguarded_.end() || before->second != pod.interface.why_unguarded) continue;
    source::ObjectEvent event;
    event.api_version = "v1";
    event.kind = "Pod";
    event.object = pod.object->id;
    event.uid = pod.object->uid;
    event.reason = "Unguarded";
    event.message = "reaches nothing but the mesh: " + pod.interface.why_unguarded;
    event_writer_->Write(std::move(event));
  }
  unguarded_ = std::move(unguarded);
}

}  // namespace egress::agent
