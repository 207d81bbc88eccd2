// Reflector: the watch.
#include <algorithm>

#include "agent/base/json_fields.h"
#include "agent/source/reflector.h"
#include "agent/source/resource_version.h"
#include "agent/source/status_text.h"

namespace egress::source {
namespace {

using Clock = std::chrono::steady_clock;

// The server ends a watch after a time that we ask for, drawn at random so that the nodes of a cluster do not come back
// together.
constexpr std::chrono::milliseconds kShortestWatch{300'000};
constexpr std::chrono::milliseconds kLongestWatch{600'000};
constexpr std::chrono::milliseconds kEarly{5'000};
constexpr int kGone = 410;
constexpr int kNotFound = 404;

}  // namespace

void Reflector::Watch() {
  const auto length = std::chrono::duration_cast<std::chrono::seconds>(Backoff::Between(kShortestWatch, kLongestWatch));
  watch_until_ = Clock::now() + length;
  stream_error_.clear();
  relist_ = false;
  lines_.emplace([this](std::string_view line) { OnLine(line); });
  if (!state_.lost) state_.lost = Clock::now();
  HttpClient::Request request =
      Get(resource_.ListPath(version()) + "?watch=1&allowWatchBookmarks=true&resourceVersion=" + resource_version_ +
          "&timeoutSeconds=" + std::to_string(length.count()) + Query());
  request.silence = silence_;
  request_ = http_.Start(std::move(request), {[this] {
                                                Heard();
                                                Enter("watching");
                                              },
                                              [this](std::string_view bytes) {
                                                if (!stream_error_.empty() || relist_) return;
                                                auto done = lines_->Feed(bytes);
                                                if (!done) stream_error_ = done.error().message;
                                                Flush();
                                                if (relist_ || !stream_error_.empty()) {
                                                  http_.Cancel(request_);
                                                  OnWatchEnd({});
                                                }
                                              },
                                              [this](const HttpClient::Outcome& outcome) { OnWatchEnd(outcome); }});
}

void Reflector::OnLine(std::string_view line) {
  if (relist_ || !stream_error_.empty()) return;
  const auto event = nlohmann::json::parse(line, nullptr, false);
  const auto* object = Member(&event, "object");
  if (object == nullptr) {
    stream_error_ = "an event of the watch is not understood";
    relist_ = true;
    return;
  }
  OnEvent(TextAt(event, "type"), *object);
}

void Reflector::OnEvent(const std::string& type, const nlohmann::json& object) {
  if (type == "ERROR") {
    const auto* code = Member(&object, "code");
    relist_ = code != nullptr && *code == kGone;
    if (!relist_) stream_error_ = "the watch ends: " + TextAt(object, "message");
    return;
  }
  if (type == "BOOKMARK") {
    const std::string reached = TextOf(Member(Member(&object, "metadata"), "resourceVersion"));
    if (!reached.empty()) resource_version_ = reached;
    backoff_.Reset();
    return;
  }
  auto read = ReadObject(resource_, version(), object);
  const bool gone = type == "DELETED";
  if (!read || (!gone && type != "ADDED" && type != "MODIFIED")) {
    stream_error_ = !read ? read.error().message : "the watch has an event of unknown type " + type;
    relist_ = true;
    return;
  }
  backoff_.Reset();
  resource_version_ = read->resource_version;
  const auto known = known_.find(read->id);
  if (known != known_.end() && IsOlder(read->resource_version, known->second.resource_version)) return;  // see Learn()
  if (!gone) {
    known_[read->id] = {read->resource_version, read->uid, list_};
  } else if (known != known_.end()) {
    known_.erase(known);
  }
  state_.objects = known_.size();
  pending_.push_back({*std::move(read), gone});
}

void Reflector::OnWatchEnd(const HttpClient::Outcome& outcome) {
  lines_.reset();
  if (outcome.status == kGone) relist_ = true;
  if (outcome.status == kNotFound && resource_.optional) return FindVersion(0);
  if (!stream_error_.empty()) return Wait(relist_ ? &Reflector::List : &Reflector::Probe, stream_error_);
  if (relist_) return Wait(&Reflector::List, "");
  if (outcome.ok() && Clock::now() + kEarly > watch_until_) return Watch();
  if (outcome.ok()) return Wait(&Reflector::Probe, "");  // the server goes down, or has been restarted
  if (outcome.silent) return Probe();                    // nothing happens, or the stream leads nowhere any more
  Failed(outcome, &Reflector::Probe);
}

// A watch from a resourceVersion that the server has not reached stays silent until it has: after a restored backup all
// changes up to there would be missed. And others may have written so much meanwhile that it has reached it. So where a
// watch has ended before its time, the server is asked where it is, how many objects it has, and for the one that changed
// last. Where that is not what is known the list is made again. With a selector a server does not count; those are few.
void Reflector::Probe() {
  if (!resource_.field_selector.empty()) return ListAnew();
  AskForOne({}, [this] {
    if (items_seen_ != known_.size()) return ListAnew();
    const auto newest = std::max_element(known_.begin(), known_.end(), [](const auto& a, const auto& b) {
      return IsOlder(a.second.resource_version, b.second.resource_version);
    });
    if (newest == known_.end()) return Watch();
    AskForOne(newest->first, [this, version = newest->second.resource_version] {
      return version_seen_ == version ? Watch() : ListAnew();
    });
  });
}

// A page of one object: of that name, or of all. `then` finds how many there are and the resourceVersion of that one.
void Reflector::AskForOne(const policy::ObjectId& id, std::function<void()> then) {
  stream_error_.clear();
  items_seen_ = 0;
  version_seen_.clear();
  items_.emplace([this](const std::string& text) {
    const auto object = ParseObject(resource_, version(), text);
    version_seen_ = object ? object->resource_version : "";
    ++items_seen_;
  });
  request_ = http_.Start(Get(resource_.ListPath(version(), id.ns) + "?limit=1" + Query(id.name)),
                         {{},
                          [this](std::string_view bytes) { (void)items_->Feed(bytes); },
                          [this, then = std::move(then)](const HttpClient::Outcome& outcome) {
                            if (outcome.status == kNotFound && resource_.optional) return FindVersion(0);
                            if (Failed(outcome, &Reflector::Probe)) return;
                            const ListHead head = ReadHead();
                            if (head.resource_version.empty()) {
                              return Wait(&Reflector::Probe, "the list that the server sent is not understood");
                            }
                            if (IsOlder(head.resource_version, resource_version_)) return ListAnew();
                            items_seen_ += head.remaining;
                            then();
                          }});
}

// In another history the same number may mean something else.
void Reflector::ListAnew() {
  for (auto& [id, seen] : known_) seen.resource_version.clear();
  List();
}

}  // namespace egress::source
