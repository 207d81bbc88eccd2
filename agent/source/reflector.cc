// Reflector: the list, and what to do where there is no such kind. The watch is in reflector_watch.cc.
#include "agent/source/reflector.h"

#include "agent/base/json_fields.h"
#include "agent/source/resource_version.h"
#include "agent/source/status_text.h"

namespace egress::source {
namespace {

constexpr int kPage = 500;
constexpr std::chrono::milliseconds kFirstWait{400};
constexpr std::chrono::milliseconds kMostWait{30'000};
constexpr std::chrono::milliseconds kFirstLookForKind{1'000};
constexpr std::chrono::milliseconds kDiscoveryDeadline{15'000};
constexpr int kGone = 410;
constexpr int kNotFound = 404;

}  // namespace

Reflector::Reflector(EventLoop& loop, HttpClient& http, Resource resource, Callbacks callbacks,
                     std::chrono::milliseconds silence)
    : loop_(loop),
      http_(http),
      resource_(std::move(resource)),
      callbacks_(std::move(callbacks)),
      silence_(silence),
      backoff_(kFirstWait, kMostWait),
      absent_backoff_(kFirstLookForKind, kMostWait) {
  state_.kind = resource_.kind;
}

Reflector::~Reflector() {
  http_.Cancel(request_);
  loop_.Cancel(timer_);
}

void Reflector::Start() {
  state_.lost = std::chrono::steady_clock::now();
  List();
}

std::string Reflector::UidOf(const policy::ObjectId& id) const {
  const auto found = known_.find(id);
  return found == known_.end() ? "" : found->second.uid;
}

std::string Reflector::ResourceVersionOf(const policy::ObjectId& id) const {
  const auto found = known_.find(id);
  return found == known_.end() ? "" : found->second.resource_version;
}

void Reflector::Enter(const char* state) {
  state_.state = state;
  state_.objects = known_.size();
}

void Reflector::Heard() {
  state_.lost.reset();
  state_.error.clear();
}

HttpClient::Request Reflector::Get(const std::string& path) const {
  HttpClient::Request request;
  request.path = path;
  return request;
}

// `name`: of one object only.
std::string Reflector::Query(const std::string& name) const {
  std::string selector = resource_.field_selector;
  if (const std::size_t equals = selector.find('='); equals != std::string::npos) selector.replace(equals, 1, "%3D");
  if (!name.empty()) selector += (selector.empty() ? "" : "%2C") + ("metadata.name%3D" + name);
  return selector.empty() ? "" : "&fieldSelector=" + selector;
}

void Reflector::Wait(Step next, const std::string& error, std::chrono::milliseconds asked) {
  if (!state_.lost) state_.lost = std::chrono::steady_clock::now();
  if (!error.empty() && error != state_.error) callbacks_.problem(resource_.kind + ": " + error);
  if (!error.empty()) state_.error = error;
  Enter("waiting");
  timer_ = loop_.After(backoff_.Next(asked), [this, next] { (this->*next)(); });
}

// Says whether the answer is no success; then `again` is tried later.
bool Reflector::Failed(const HttpClient::Outcome& outcome, Step again) {
  if (outcome.ok()) return false;
  Wait(again, Explain(outcome, http_.access().server), outcome.retry_after);
  return true;
}

// ---- List ----

// From etcd and not from a cache of the server (no resourceVersion is given): what another server of the cluster has
// already told, and what may be in force here, is never older than the list.
void Reflector::List() {
  Enter("listing");
  ++list_;
  relist_ = false;
  ReadPage("");
}

void Reflector::ReadPage(const std::string& token) {
  std::string path = resource_.ListPath(version()) + "?limit=" + std::to_string(whole_list_ ? 0 : kPage) + Query();
  if (!token.empty()) path += "&continue=" + token;
  stream_error_.clear();
  items_.emplace([this](std::string text) { OnItem(std::move(text)); });
  request_ = http_.Start(Get(path), {{},
                                     [this](std::string_view bytes) {
                                       if (!stream_error_.empty()) return;
                                       if (auto done = items_->Feed(bytes); !done) stream_error_ = done.error().message;
                                     },
                                     [this](HttpClient::Outcome outcome) { OnPage(std::move(outcome)); }});
}

void Reflector::OnItem(std::string text) {
  auto object = ParseObject(resource_, version(), text);
  if (!object) {
    stream_error_ = object.error().message;
    return;
  }
  const auto [known, is_new] = known_.try_emplace(object->id);
  Seen& seen = known->second;
  seen.list = list_;
  // Learn() may have told of a newer one while the list was under way.
  if (!is_new &&
      (seen.resource_version == object->resource_version || IsOlder(object->resource_version, seen.resource_version))) {
    return;
  }
  seen.resource_version = object->resource_version;
  seen.uid = object->uid;
  pending_.push_back({*std::move(object), false});
}

void Reflector::OnPage(HttpClient::Outcome outcome) {
  if (outcome.status == kNotFound && resource_.optional) return FindVersion(0);
  if (outcome.status == kGone) whole_list_ = true;
  if (outcome.ok() && !stream_error_.empty()) outcome.error = stream_error_;
  if (Failed(outcome, &Reflector::List)) return;
  const ListHead head = ReadHead();
  if (head.resource_version.empty()) {
    return Wait(&Reflector::List, "the list that the server sent is not understood");
  }
  if (!state_.synced) Flush();
  if (!head.token.empty()) return ReadPage(head.token);
  OnListed(head.resource_version);
}

Reflector::ListHead Reflector::ReadHead() const {
  const auto rest = items_->Rest();
  if (!rest) return {};
  const auto list = nlohmann::json::parse(*rest, nullptr, false);
  const auto* metadata = Member(&list, "metadata");
  const auto* remaining = Member(metadata, "remainingItemCount");
  return {TextOf(Member(metadata, "resourceVersion")), TextOf(Member(metadata, "continue")),
          remaining != nullptr && remaining->is_number_unsigned() ? remaining->get<std::size_t>() : 0};
}

void Reflector::OnListed(const std::string& resource_version) {
  for (auto known = known_.begin(); known != known_.end();) {
    if (known->second.list == list_ || IsOlder(resource_version, known->second.resource_version)) {
      ++known;
      continue;
    }
    Object gone;
    gone.id = known->first;
    pending_.push_back({std::move(gone), true});
    known = known_.erase(known);
  }
  resource_version_ = resource_version;
  whole_list_ = false;
  absent_once_ = false;
  backoff_.Reset();
  absent_backoff_.Reset();
  Flush();
  Synced();
  Watch();
}

void Reflector::Synced() {
  state_.objects = known_.size();
  state_.error.clear();
  if (state_.synced) return;
  state_.synced = true;
  callbacks_.synced();
}

void Reflector::Flush() {
  if (pending_.empty()) return;
  callbacks_.changed(std::exchange(pending_, {}));
}

void Reflector::Learn(Object object) {
  Seen& seen = known_[object.id];
  if (!seen.resource_version.empty() &&
      (seen.resource_version == object.resource_version || IsOlder(object.resource_version, seen.resource_version))) {
    return;
  }
  seen = {object.resource_version, object.uid, list_};
  std::erase_if(pending_, [&](const ObjectChange& change) { return change.object.id == object.id; });
  std::vector<ObjectChange> change;
  change.push_back({std::move(object), false});
  callbacks_.changed(std::move(change));
}

// ---- No such kind ----

// A list that is not found says little by itself: the server may be starting. What it serves is asked in so many words,
// version by version.
void Reflector::FindVersion(std::size_t index) {
  if (index == resource_.versions.size()) return OnAbsent();
  HttpClient::Request request = Get(resource_.VersionPath(resource_.versions[index]));
  request.deadline = kDiscoveryDeadline;
  request_ = http_.Start(std::move(request),
                         {{}, {}, [this, index](const HttpClient::Outcome& outcome) { OnDiscovered(index, outcome); }});
}

void Reflector::OnDiscovered(std::size_t index, const HttpClient::Outcome& outcome) {
  if (outcome.status == kNotFound) return FindVersion(index + 1);
  if (Failed(outcome, &Reflector::List)) return;
  const auto served = nlohmann::json::parse(outcome.body, nullptr, false);
  const auto* resources = Member(&served, "resources");
  if (resources == nullptr || !resources->is_array()) {
    return Wait(&Reflector::List, "what the server says of its kinds is not understood");
  }
  for (const auto& resource : *resources) {
    if (TextAt(resource, "name") != resource_.plural) continue;
    const bool other = index != version_;
    version_ = index;
    if (other) return List();
    return Wait(&Reflector::List, "is listed among the kinds that the server knows, and not found");
  }
  FindVersion(index + 1);
}

// Of a kind whose objects are known the server has to say so twice.
void Reflector::OnAbsent() {
  if (!known_.empty() && !std::exchange(absent_once_, true))
    return Wait(&Reflector::List, "the server does not know it");
  version_ = 0;
  for (const auto& [id, seen] : known_) {
    Object gone;
    gone.id = id;
    pending_.push_back({std::move(gone), true});
  }
  known_.clear();
  backoff_.Reset();
  Flush();
  Heard();
  Enter("absent");
  Synced();
  timer_ = loop_.After(absent_backoff_.Next(), [this] { List(); });
}

}  // namespace egress::source
