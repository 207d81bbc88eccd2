// KubernetesSource: the objects of a cluster that concern this node, from its API server.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/event_loop.h"
#include "agent/source/cluster_access.h"
#include "agent/source/http_client.h"
#include "agent/source/reflector.h"

namespace egress::source {

class KubernetesSource {
 public:
  struct Callbacks {
    // To be applied in one step. Before synced() it is a part of all there is, and nothing may come into force.
    std::function<void(std::vector<ObjectChange>, const Resource&)> changed;
    // Once: every kind has been listed.
    std::function<void()> synced;
    std::function<void(const std::string&)> problem;
  };

  // `node_name` as the API has it: of Pods only those of this node are watched.
  KubernetesSource(EventLoop& loop, ClusterAccess access, std::string node_name, Callbacks callbacks);

  void Start();

  const std::string& server() const { return http_.access().server; }
  const std::string& node_name() const { return node_name_; }
  std::vector<KindState> Kinds() const;
  // How long what is known of the kind that lags most has not been kept up; 0 while all are watched.
  std::chrono::duration<double> Age() const;
  // "waits for the first list of Egress: 403: ..."; empty once synced.
  std::string WhyNotSynced() const;

  // Reads one object by itself, from the API server and not from the watch, which may lag. When `done` is called, what
  // was found has gone through `changed` (a Pod of another node has not). false: the API says that there is none.
  // An Error where it does not answer within `deadline`. For "Pod", "Namespace" and the kinds of policy.
  void Refresh(const std::string& kind, const policy::ObjectId& id, std::chrono::milliseconds deadline,
               std::function<void(Result<bool>)> done);

  // nullptr for other kinds.
  const Reflector* Find(const std::string& kind) const;
  HttpClient& http() { return http_; }

 private:
  Reflector* FindReflector(const std::string& kind) const;
  void FindNode();
  void SyncedOne();

  EventLoop& loop_;
  HttpClient http_;
  std::string node_name_;
  Callbacks callbacks_;
  std::vector<std::unique_ptr<Reflector>> reflectors_;
  bool node_known_ = false;
  std::string node_error_;
  Backoff node_backoff_;
  bool synced_ = false;
};

}  // namespace egress::source
