#include "agent/source/kubernetes.h"

#include <algorithm>

#include "agent/source/status_text.h"

namespace egress::source {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kFirstWait{400};
constexpr std::chrono::milliseconds kMostWait{15'000};
constexpr std::chrono::milliseconds kNodeDeadline{15'000};
constexpr int kForbidden = 403;
constexpr int kNotFound = 404;

}  // namespace

KubernetesSource::KubernetesSource(EventLoop& loop, ClusterAccess access, std::string node_name, Callbacks callbacks)
    : loop_(loop),
      http_(loop, std::move(access), "egressd"),
      node_name_(std::move(node_name)),
      callbacks_(std::move(callbacks)),
      node_backoff_(kFirstWait, kMostWait) {
  for (const Resource& resource : PolicyResources(node_name_)) {
    reflectors_.push_back(std::make_unique<Reflector>(
        loop_, http_, resource,
        Reflector::Callbacks{
            [this, resource](std::vector<ObjectChange> changes) { callbacks_.changed(std::move(changes), resource); },
            [this] { SyncedOne(); }, callbacks_.problem}));
  }
}

void KubernetesSource::Start() {
  FindNode();
  for (const auto& reflector : reflectors_) reflector->Start();
}

// A name that is not this node's would find no pods, and so set all of them free.
void KubernetesSource::FindNode() {
  HttpClient::Request request;
  request.path = "/api/v1/nodes/" + node_name_;
  request.deadline = kNodeDeadline;
  http_.Start(std::move(request), {{}, {}, [this](const HttpClient::Outcome& outcome) {
                                     node_known_ = outcome.ok() || outcome.status == kForbidden;
                                     if (outcome.ok()) {
                                       node_error_.clear();
                                     } else if (outcome.status == kNotFound) {
                                       node_error_ = "the cluster has no node \"" + node_name_ +
                                                     "\": give --node-name as kubectl get nodes shows it";
                                     } else {
                                       node_error_ = "read node " + node_name_ + ": " + Explain(outcome, server());
                                     }
                                     if (!node_error_.empty()) callbacks_.problem(node_error_);
                                     if (node_known_) return SyncedOne();
                                     loop_.After(node_backoff_.Next(outcome.retry_after), [this] { FindNode(); });
                                   }});
}

void KubernetesSource::SyncedOne() {
  const bool all = std::all_of(reflectors_.begin(), reflectors_.end(),
                               [](const auto& reflector) { return reflector->state().synced; });
  if (synced_ || !all || !node_known_) return;
  synced_ = true;
  callbacks_.synced();
}

std::vector<KindState> KubernetesSource::Kinds() const {
  std::vector<KindState> kinds;
  for (const auto& reflector : reflectors_) kinds.push_back(reflector->state());
  return kinds;
}

std::chrono::duration<double> KubernetesSource::Age() const {
  const auto now = Clock::now();
  Clock::duration age{0};
  for (const auto& reflector : reflectors_) {
    if (const auto lost = reflector->state().lost) age = std::max(age, now - *lost);
  }
  return age;
}

std::string KubernetesSource::WhyNotSynced() const {
  if (synced_) return "";
  if (!node_known_ && !node_error_.empty()) return node_error_;
  std::string kinds;
  std::string error;
  for (const auto& reflector : reflectors_) {
    const KindState& state = reflector->state();
    if (state.synced) continue;
    kinds += (kinds.empty() ? "" : ", ") + state.kind;
    if (error.empty()) error = state.error;
  }
  return "waits for the first list of " + kinds + (error.empty() ? "" : ": " + error);
}

const Reflector* KubernetesSource::Find(const std::string& kind) const { return FindReflector(kind); }

Reflector* KubernetesSource::FindReflector(const std::string& kind) const {
  const auto found = std::find_if(reflectors_.begin(), reflectors_.end(),
                                  [&](const auto& reflector) { return reflector->resource().kind == kind; });
  return found == reflectors_.end() ? nullptr : found->get();
}

void KubernetesSource::Refresh(const std::string& kind, const policy::ObjectId& id, std::chrono::milliseconds deadline,
                               std::function<void(Result<bool>)> done) {
  Reflector* reflector = FindReflector(kind);
  HttpClient::Request request;
  request.path = reflector->resource().ObjectPath(reflector->version(), id);
  request.deadline = deadline;
  http_.Start(std::move(request), {{}, {}, [this, reflector, id, done](const HttpClient::Outcome& outcome) {
                                     const std::string what = reflector->resource().kind + " " + id.ToString();
                                     if (outcome.status == kNotFound) return done(false);
                                     if (!outcome.ok()) {
                                       return done(Error{"read " + what + ": " + Explain(outcome, server())});
                                     }
                                     auto object =
                                         ParseObject(reflector->resource(), reflector->version(), outcome.body);
                                     if (!object) return done(std::move(object).error());
                                     const bool all = reflector->resource().field_selector.empty();
                                     if (all || object->node_name == node_name_) {
                                       reflector->Learn(*std::move(object));
                                     }
                                     done(true);
                                   }});
}

}  // namespace egress::source
