// EventWriter: tells the owners of objects what is wrong with them, as Events of the API.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <set>
#include <string>

#include "agent/base/event_loop.h"
#include "agent/policy/model.h"
#include "agent/source/backoff.h"
#include "agent/source/http_client.h"

namespace egress::source {

struct ObjectEvent {
  std::string api_version;
  std::string kind;
  policy::ObjectId object;
  std::string uid;
  std::string resource_version;
  std::string reason;       // "Invalid"
  std::string message;      // cut where it is longer than Kubernetes takes
  bool every_node = false;  // every node of the cluster finds the same
};

class EventWriter {
 public:
  EventWriter(EventLoop& loop, HttpClient& http, std::string node_name,
              std::function<void(const std::string&)> problem);
  ~EventWriter();

  // Writes it once: its name follows from the object's version and what is said, so that of all nodes, and of an agent
  // that is restarted, one creates it. What cannot be written is given up after some attempts; at most kMaxWaiting
  // wait.
  void Write(ObjectEvent event);

  static constexpr std::size_t kMaxWaiting = 500;

 private:
  struct Waiting {
    ObjectEvent event;
    std::string name;
    int attempts = 0;
  };

  void Schedule(std::chrono::milliseconds delay);
  void Next();
  void Send(Waiting waiting);
  std::string Body(const Waiting& waiting) const;

  EventLoop& loop_;
  HttpClient& http_;
  std::string node_name_;
  std::function<void(const std::string&)> problem_;
  std::deque<Waiting> waiting_;
  std::set<std::string> written_;
  std::deque<std::string> written_order_;
  int burst_left_;
  EventLoop::TimerId timer_ = 0;
  Backoff backoff_;
  bool forbidden_ = false;
};

}  // namespace egress::source
