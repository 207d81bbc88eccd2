// EventLog: the last decisions, in a ring, and whoever follows them. It belongs to one thread, the agent's loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace egress::report {

// One decision worth telling. Empty texts are "not known".
struct Event {
  std::chrono::system_clock::time_point time;
  std::string pod;       // NAMESPACE/NAME
  std::string verdict;   // allow, deny, audit
  std::string reason;    // names of egress.h: "sni-mismatch"
  std::string protocol;  // tcp, https, http, udp, icmp, other
  std::string source;    // address
  std::string destination;
  int port = 0;
  std::string sni;
  std::string host;
  std::string method;
  std::string path;
  std::string policy;  // NAMESPACE/NAME
  std::string hook;    // connect, send, boundary, change, proxy
};

// "2024-05-01T12:00:00.123Z"
std::string FormatTime(std::chrono::system_clock::time_point time);

// Members that are not known are left out; `time`, `pod`, `verdict`, `reason`, `protocol`, `source`, `destination`
// and `port` are always there.
nlohmann::json EventToJson(const Event& event);

// "TIME deny sni-mismatch curl/curl https 10.244.1.10 -> 198.51.100.66:443 sni=evil.test policy=curl/web".
// Takes the JSON form, since that is what egressctl gets. Control characters in values are escaped.
std::string EventLine(const nlohmann::json& event);

struct EventFilter {
  std::string pod;      // empty: all
  std::string verdict;  // empty: all
  bool Matches(const Event& event) const;
};

class EventLog {
 public:
  using Follower = std::function<void(const Event&)>;
  using FollowerId = std::uint64_t;

  explicit EventLog(std::size_t capacity = 4096);

  // Keeps `event`, forgets the oldest where the ring is full, and calls the followers whose filter matches.
  void Add(Event event);

  // Oldest first.
  std::vector<Event> Matching(const EventFilter& filter) const;

  // A follower may unfollow itself or others while it is called.
  FollowerId Follow(EventFilter filter, Follower follower);
  void Unfollow(FollowerId id);

 private:
  struct Following {
    EventFilter filter;
    Follower follower;
  };
  std::size_t capacity_;
  std::deque<Event> events_;
  std::map<FollowerId, Following> followers_;
  FollowerId next_id_ = 1;
};

}  // namespace egress::report
