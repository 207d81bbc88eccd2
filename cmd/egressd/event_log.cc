#include "cmd/egressd/event_log.h"

#include <array>
#include <cstdio>
#include <ctime>
#include <utility>

namespace egress::report {

using nlohmann::json;

namespace {

// `value` so that it cannot end the line or play with the terminal.
std::string Printable(const std::string& value) {
  std::string result;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x21 && byte != 0x7f) {
      result += c;
    } else {
      std::array<char, 5> escaped{};
      std::snprintf(escaped.data(), escaped.size(), "\\x%02x", byte);
      result += escaped.data();
    }
  }
  return result;
}

// The member `key`; empty where it is not known.
std::string Text(const json& event, const char* key) {
  const auto found = event.find(key);
  if (found == event.end()) return {};
  return found->is_string() ? Printable(found->get<std::string>()) : found->dump();
}

}  // namespace

std::string FormatTime(std::chrono::system_clock::time_point time) {
  const auto whole = std::chrono::floor<std::chrono::milliseconds>(time);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(whole);
  const std::time_t clock = std::chrono::system_clock::to_time_t(seconds);
  std::tm parts{};
  gmtime_r(&clock, &parts);
  std::array<char, 32> date{};
  std::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 8> fraction{};
  std::snprintf(fraction.data(), fraction.size(), ".%03dZ", static_cast<int>((whole - seconds).count()));
  return std::string(date.data()) + fraction.data();
}

json EventToJson(const Event& event) {
  json result = {{"time", FormatTime(event.time)},   {"pod", event.pod},           {"verdict", event.verdict},
                 {"reason", event.reason},           {"protocol", event.protocol}, {"source", event.source},
                 {"destination", event.destination}, {"port", event.port}};
  const std::pair<const char*, const std::string&> known[] = {{"sni", event.sni},       {"host", event.host},
                                                              {"method", event.method}, {"path", event.path},
                                                              {"policy", event.policy}, {"hook", event.hook}};
  for (const auto& [key, value] : known) {
    if (!value.empty()) result[key] = value;
  }
  return result;
}

std::string EventLine(const json& event) {
  std::string line;
  for (const char* key : {"time", "verdict", "reason", "pod", "protocol", "source"}) {
    const std::string value = Text(event, key);
    line += (value.empty() ? "-" : value) + " ";
  }
  const std::string address = Text(event, "destination");
  const bool brackets = address.find(':') != std::string::npos;
  line += "-> " + (brackets ? "[" + address + "]" : address) + ":" + Text(event, "port");
  for (const char* key : {"sni", "host", "method", "path", "policy"}) {
    const std::string value = Text(event, key);
    if (!value.empty()) line += std::string(" ") + key + "=" + value;
  }
  return line;
}

bool EventFilter::Matches(const Event& event) const {
  return (pod.empty() || pod == event.pod) && (verdict.empty() || verdict == event.verdict);
}

EventLog::EventLog(std::size_t capacity) : capacity_(capacity) {}

void EventLog::Add(Event event) {
  // A follower may unfollow anybody, so the map is not iterated while they are called.
  std::vector<FollowerId> ids;
  for (const auto& [id, following] : followers_) {
    if (following.filter.Matches(event)) ids.push_back(id);
  }
  for (const FollowerId id : ids) {
    const auto found = followers_.find(id);
    if (found == followers_.end()) continue;
    const Follower follower = found->second.follower;
    follower(event);
  }
  if (events_.size() == capacity_) events_.pop_front();
  events_.push_back(std::move(event));
}

std::vector<Event> EventLog::Matching(const EventFilter& filter) const {
  std::vector<Event> result;
  for (const Event& event : events_) {
    if (filter.Matches(event)) result.push_back(event);
  }
  return result;
}

EventLog::FollowerId EventLog::Follow(EventFilter filter, Follower follower) {
  const FollowerId id = next_id_++;
  followers_.emplace(id, Following{std::move(filter), std::move(follower)});
  return id;
}

void EventLog::Unfollow(FollowerId id) { followers_.erase(id); }

}  // namespace egress::report
