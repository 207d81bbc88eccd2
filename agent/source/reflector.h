// Reflector: all objects of one kind, as the API server has them: a list, then a watch from where the list ended.
//
// What is known stays known while the server is away. When a watch cannot go on (its resourceVersion is too old, or the
// server's history is another one, as after a restored backup) the list is made again, and its difference to what was
// known is told in one piece.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/event_loop.h"
#include "agent/source/backoff.h"
#include "agent/source/http_client.h"
#include "agent/source/json_stream.h"
#include "agent/source/resource.h"

namespace egress::source {

struct ObjectChange {
  Object object;
  bool gone = false;  // then only object.id says something
};

struct KindState {
  std::string kind;
  std::string state;  // "listing", "watching", "waiting" (for the next attempt), "absent" (no such kind in the cluster)
  bool synced = false;  // the first list is complete, or there is no such kind
  std::size_t objects = 0;
  // Since when the server has not been heard of; nullopt: it is being listened to. Before `synced`: since the start.
  std::optional<std::chrono::steady_clock::time_point> lost;
  std::string error;  // why it waits, and what to do
};

class Reflector {
 public:
  struct Callbacks {
    // To be applied in order, and as a whole. Before `synced` it is a part of the first list.
    std::function<void(std::vector<ObjectChange>)> changed;
    std::function<void()> synced;  // once
    std::function<void(const std::string&)> problem;
  };

  // A watch in which nothing has come for `silence` is made anew. Bookmarks come about once a minute, but a server may
  // send none where nothing changes.
  Reflector(EventLoop& loop, HttpClient& http, Resource resource, Callbacks callbacks,
            std::chrono::milliseconds silence = std::chrono::seconds(150));
  ~Reflector();
  Reflector(const Reflector&) = delete;
  Reflector& operator=(const Reflector&) = delete;

  void Start();
  const KindState& state() const { return state_; }
  const Resource& resource() const { return resource_; }
  const std::string& version() const { return resource_.versions[version_]; }
  // "" where it is not known.
  std::string UidOf(const policy::ObjectId& id) const;
  std::string ResourceVersionOf(const policy::ObjectId& id) const;

  // Takes over an object that was read by itself, if it is newer than what is known.
  void Learn(Object object);

 private:
  struct Seen {
    std::string resource_version;
    std::string uid;
    std::uint64_t list = 0;  // the last one that held it
  };
  using Step = void (Reflector::*)();

  void List();
  void ReadPage(const std::string& token);
  void OnItem(std::string text);
  void OnPage(HttpClient::Outcome outcome);
  struct ListHead {
    std::string resource_version;  // empty: the answer is no list
    std::string token;             // of the next page; empty: there is none
    std::size_t remaining = 0;     // objects on the pages to come, as far as the server says
  };
  ListHead ReadHead() const;
  void OnListed(const std::string& resource_version);
  void Probe();
  void AskForOne(const policy::ObjectId& id, std::function<void()> then);
  void ListAnew();
  void Watch();
  void OnLine(std::string_view line);
  void OnEvent(const std::string& type, const nlohmann::json& object);
  void OnWatchEnd(const HttpClient::Outcome& outcome);
  void FindVersion(std::size_t index);
  void OnDiscovered(std::size_t index, const HttpClient::Outcome& outcome);
  void OnAbsent();
  bool Failed(const HttpClient::Outcome& outcome, Step again);
  void Wait(Step next, const std::string& error, std::chrono::milliseconds asked = {});
  void Enter(const char* state);
  void Heard();
  void Synced();
  void Flush();
  HttpClient::Request Get(const std::string& path) const;
  std::string Query(const std::string& name = "") const;

  EventLoop& loop_;
  HttpClient& http_;
  Resource resource_;
  Callbacks callbacks_;
  std::chrono::milliseconds silence_;
  KindState state_;
  std::size_t version_ = 0;  // index in resource_.versions
  std::map<policy::ObjectId, Seen> known_;
  std::string resource_version_;       // up to which everything is known
  std::vector<ObjectChange> pending_;  // in known_, and not told yet
  std::uint64_t list_ = 0;             // number of the list that is being made
  bool whole_list_ = false;            // without pages: their token expired
  bool relist_ = false;                // the watch cannot go on
  std::size_t items_seen_ = 0;         // see AskForOne()
  std::string version_seen_;
  bool absent_once_ = false;  // the server has said once that there is no such kind any more
  std::chrono::steady_clock::time_point watch_until_;
  std::string stream_error_;
  std::optional<ListSplitter> items_;
  std::optional<LineSplitter> lines_;
  HttpClient::RequestId request_ = 0;
  EventLoop::TimerId timer_ = 0;
  Backoff backoff_;
  Backoff absent_backoff_;
};

}  // namespace egress::source
