// CniServer: answers egress-cni, and takes over the pods that the plugin holds to the mesh meanwhile.
//
// A pod is looked after until its own rules are in force or it turns out to need none; then whoever waits is told, and the
// plugin's deny program, where it has come to attach that, is taken away. A pod that stays unknown keeps it. A plugin that
// has given up waiting asks once more, with its program attached: it is told at once what was found meanwhile.
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/event_loop.h"
#include "agent/cni/request.h"
#include "agent/policy/model.h"
#include "cmd/egressd/control_socket.h"

namespace egress::agent {

class CniServer {
 public:
  enum class State { kUnknown, kNotGoverned, kInForce };
  struct Callbacks {
    // Reads the pod and its namespace anew; calls the last argument when what was found counts, or within the deadline.
    std::function<void(const policy::ObjectId&, std::chrono::milliseconds deadline, std::function<void()>)> refresh;
    std::function<void(const cni::Request&)> added;
    std::function<void(const cni::Request&)> deleted;
    std::function<State(const cni::Request&)> state;
    std::function<void(const std::string&)> problem;
  };

  // Listens at `path`, then takes up what the plugin has left while nobody did.
  static Result<std::unique_ptr<CniServer>> Start(EventLoop& loop, const std::string& path, Callbacks callbacks);
  ~CniServer();
  CniServer(const CniServer&) = delete;
  CniServer& operator=(const CniServer&) = delete;

  // Something has come into force, or is known now: looks at all that is held.
  void Look();
  // Pods that egress-cni holds to the mesh still.
  std::vector<policy::ObjectId> Held() const;

 private:
  struct Client {
    Fd socket;
    std::string text;  // received
  };
  // Whether its objects have been read after the ADD. Never: what the agent read at its start has to do.
  enum class Read { kNever, kUnderWay, kDone };
  struct Pod {
    cni::Request request;
    Read read = Read::kNever;
    int client = -1;                                               // that waits for the answer
    std::optional<std::chrono::steady_clock::time_point> settled;  // with nobody waiting
  };

  CniServer(EventLoop& loop, report::ControlSocket listener, Callbacks callbacks);
  void TakeUpLeft();
  void OnConnection();
  void OnClient(int fd);
  void OnRequest(int fd, const cni::Request& request);
  Pod& Take(const cni::Request& request);
  bool Settle(Pod& pod);
  void Answer(int fd, std::string_view answer);
  void Close(int fd);

  EventLoop& loop_;
  report::ControlSocket listener_;
  Callbacks callbacks_;
  std::map<int, Client> clients_;
  std::list<Pod> pods_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is under way when this ends
};

}  // namespace egress::agent
