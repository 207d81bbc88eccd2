#include "agent/source/event_writer.h"

#include <cstdint>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "agent/source/status_text.h"

namespace egress::source {
namespace {

using Ms = std::chrono::milliseconds;

constexpr Ms kPace{1'000};    // between two, once the burst is used up
constexpr int kBurst = 20;    // comes back one at a time while nothing waits
constexpr Ms kSpread{2'000};  // over which the nodes of a cluster spread what all of them find
constexpr Ms kDeadline{15'000};
constexpr int kAttempts = 5;
constexpr std::size_t kMaxMessage = 1'000;  // Kubernetes takes 1024 bytes
constexpr std::size_t kMaxName = 200;       // of 253
constexpr std::size_t kRemembered = 4'096;
constexpr int kForbidden = 403, kNotFound = 404, kConflict = 409;

// FNV-1a, 64 bits: the same on every node.
std::string Hash(const std::string& text) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  char digits[17];
  (void)std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

std::string Now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  ::gmtime_r(&now, &utc);
  char text[32];
  (void)std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

// At most `most` bytes, cut between characters of UTF-8.
std::string Cut(std::string text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  text.resize(most);
  return text + " ...";
}

}  // namespace

EventWriter::EventWriter(EventLoop& loop, HttpClient& http, std::string node_name,
                         std::function<void(const std::string&)> problem)
    : loop_(loop),
      http_(http),
      node_name_(std::move(node_name)),
      problem_(std::move(problem)),
      burst_left_(kBurst),
      backoff_(kPace, Ms(60'000)) {}

EventWriter::~EventWriter() { loop_.Cancel(timer_); }

void EventWriter::Write(ObjectEvent event) {
  std::string key;
  for (const std::string* part : {&event.uid, &event.resource_version, &event.reason, &event.message}) {
    key += *part + '\n';
  }
  Waiting waiting;
  waiting.name = event.object.name.substr(0, kMaxName) + "." + Hash(key);
  if (waiting_.size() >= kMaxWaiting || !written_.insert(event.object.ns + "/" + waiting.name).second) return;
  written_order_.push_back(event.object.ns + "/" + waiting.name);
  if (written_order_.size() > kRemembered) {
    written_.erase(written_order_.front());
    written_order_.pop_front();
  }
  const Ms delay = event.every_node ? Backoff::Between(Ms(0), kSpread) : Ms(0);
  waiting.event = std::move(event);
  waiting_.push_back(std::move(waiting));
  Schedule(delay);
}

void EventWriter::Schedule(Ms delay) {
  if (timer_ != 0) return;
  timer_ = loop_.After(delay, [this] {
    timer_ = 0;
    Next();
  });
}

void EventWriter::Next() {
  if (waiting_.empty()) {
    burst_left_ = std::min(burst_left_ + 1, kBurst);
    if (burst_left_ < kBurst) Schedule(kPace);
    return;
  }
  Waiting next = std::move(waiting_.front());
  waiting_.pop_front();
  Send(std::move(next));
  if (burst_left_ > 0) --burst_left_;
  Schedule(burst_left_ > 0 ? Ms(0) : kPace);
}

void EventWriter::Send(Waiting waiting) {
  HttpClient::Request request;
  request.method = "POST";
  request.path = "/api/v1/namespaces/" + waiting.event.object.ns + "/events";
  request.body = Body(waiting);
  request.deadline = kDeadline;
  http_.Start(std::move(request), {{}, {}, [this, waiting](const HttpClient::Outcome& outcome) mutable {
                                     if (outcome.ok() || outcome.status == kConflict) return backoff_.Reset();
                                     if (outcome.status == kForbidden && !std::exchange(forbidden_, true)) {
                                       problem_("write an Event: " + Explain(outcome, http_.access().server));
                                     }
                                     // A namespace that ends, or is gone, takes none.
                                     const bool no_use = outcome.status == kForbidden || outcome.status == kNotFound;
                                     if (no_use || ++waiting.attempts >= kAttempts) return;
                                     loop_.After(backoff_.Next(outcome.retry_after), [this, waiting] {
                                       waiting_.push_back(waiting);
                                       Schedule(Ms(0));
                                     });
                                   }});
}

std::string EventWriter::Body(const Waiting& waiting) const {
  const ObjectEvent& event = waiting.event;
  const std::string now = Now();
  const nlohmann::json body = {{"apiVersion", "v1"},
                               {"kind", "Event"},
                               {"metadata", {{"name", waiting.name}, {"namespace", event.object.ns}}},
                               {"involvedObject",
                                {{"apiVersion", event.api_version},
                                 {"kind", event.kind},
                                 {"namespace", event.object.ns},
                                 {"name", event.object.name},
                                 {"uid", event.uid},
                                 {"resourceVersion", event.resource_version}}},
                               {"type", "Warning"},
                               {"reason", event.reason},
                               {"message", Cut(event.message, kMaxMessage)},
                               {"source", {{"component", "egressd"}, {"host", event.every_node ? "" : node_name_}}},
                               {"reportingComponent", "egressd"},
                               {"reportingInstance", node_name_},
                               {"firstTimestamp", now},
                               {"lastTimestamp", now},
                               {"count", 1}};
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace egress::source
