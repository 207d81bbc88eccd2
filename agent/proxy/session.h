// Session: one connection of a pod, and what it asks for, request after request.
//
// Two sockets and four buffers; downstream is the pod's side, upstream the origin's. A session runs in its worker's
// thread, goes as far as it can at each event (Advance), and is destroyed by the worker once it is dead().
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "agent/base/address.h"
#include "agent/proxy/audit.h"
#include "agent/proxy/buffer.h"
#include "agent/proxy/exchange.h"
#include "agent/proxy/http_request.h"
#include "agent/proxy/http_response.h"
#include "agent/proxy/judge.h"
#include "agent/proxy/reports.h"
#include "agent/proxy/socket.h"
#include "agent/proxy/states.h"
#include "agent/proxy/upstream.h"
#include "agent/proxy/upstream_sockets.h"
#include "bpf/egress.h"

namespace egress::proxy {

class Worker;

class Session {
 public:
  Session(Worker* worker, PodSlot* pod, Fd fd, const socket_verdict& verdict);

  // ---- Called by the worker ----
  void Begin();
  void OnDownstream(std::uint32_t flags);
  void OnUpstream(std::uint32_t flags);
  void Advance();                                    // goes on where it is, as far as possible
  void SocketsArrived();                             // upstream sockets that it waited for
  void ConnectionsReclaimed();                       // idle connections that counted against its limit were looked for
  bool ReleaseUpstream(const Usage* usage);          // gives up an idle one that counts; false: it has none
  void DropStaleUpstream(Clock::time_point before);  // ... one that was used last before that time
  void OnDeadline();
  void Recheck(const PodState& state);  // the pod's rules have changed: what is live is judged again
  void Leave();                         // ends when what is under way has ended
  void Cut();                           // both ends get a RST

  bool dead() const { return phase_ == Phase::kDead; }
  bool idle() const { return phase_ == Phase::kHead && down_in_.empty() && down_out_.empty(); }
  Clock::time_point deadline() const { return deadline_; }
  PodSlot& pod() const { return pod_; }
  Pollable* events() { return &events_; }
  std::size_t index() const { return index_; }
  void set_index(std::size_t index) { index_ = index; }
  std::uint64_t number() const { return number_; }  // of all that its worker had
  void set_number(std::uint64_t number) { number_ = number; }

 private:
  enum class Phase : std::uint8_t {
    kHead,      // between requests, or in the head of one
    kConnect,   // an upstream connection is being made
    kExchange,  // the request goes up, the response comes down
    kDiscard,   // the proxy has answered; what is left of the request's body is dropped
    kRelay,     // bytes pass as they are, both ways
    kLinger,    // the last answer is out; the client is given the time to read it
    kDead,
  };
  enum class RelayKind : std::uint8_t {
    kNone,
    kTls,     // on a port with https too: the kernel judges the ClientHello of the upstream socket
    kTunnel,  // behind a 101, or a CONNECT that was answered with 2xx
    kAsSent,  // nothing is refused here: audit, or the pod is open
  };

  // session.cc
  bool Step();
  void Die();
  bool Leaving() const;
  bool FlushDownstream();
  void Touch();
  void Deadline(std::chrono::milliseconds after);
  void NextRequest(bool keep);
  void StartLinger();
  bool StepLinger();
  void ClientEnded();

  // session_request.cc
  bool StepHead();
  bool ReadHead();
  bool StartExchange(const RequestHead& request);
  bool KeepHead(std::size_t size);
  void Refuse(int code, egress_reason reason, std::string_view text, const RequestHead* request,
              const std::optional<policy::ObjectId>& policy);
  void Answer(int code, std::string_view text);
  bool StepDiscard();
  bool PumpRequest();
  bool SendBody();
  bool EncodeBody();
  void Report(egress_verdict verdict, egress_reason reason, const RequestHead* request,
              const std::optional<policy::ObjectId>& policy);

  // session_upstream.cc
  bool AcquireUpstream();
  bool OpenUpstream();
  bool TakeSocket();
  void Connected();
  void ConnectFailed(int error);
  void UpstreamDied(bool reset);
  bool Retry();
  void DropUpstream();
  void RefuseLimit(const RequestHead* request);
  bool ParseKeptHead(RequestHead* request) const;
  Ruling JudgeAgain(const RequestHead& request, std::uint32_t generation) const;
  SocketClass SocketKind() const;

  // session_response.cc
  bool PumpResponse();
  bool ReadResponseHead();
  bool ForwardHead(const ResponseHead& response);
  bool ForwardInterim(const ResponseHead& response);
  bool StartTunnel(const ResponseHead& response);
  bool SendResponseBody();
  bool EncodeResponseBody();
  void FinishExchange();
  void BadResponse();

  // session_relay.cc
  bool StartRelay(RelayKind kind, bool audit);
  bool StepRelay();
  bool RelayOneWay(Socket* from, Buffer* bytes, Socket* to, bool* ended, AuditObserver* observer);

  Worker& worker_;
  PodSlot& pod_;
  Pollable events_{Pollable::Kind::kDownstream, this};
  Socket down_;
  Target original_;
  std::uint8_t protocols_;
  Phase phase_ = Phase::kHead;
  RelayKind relay_ = RelayKind::kNone;
  bool fresh_ = true;         // no byte has been looked at yet
  bool fin_sent_ = false;     // lingering: our side has ended
  bool half_closed_ = false;  // the client ended its side while it waited for an answer: it reads on
  bool leave_ = false;
  std::uint32_t generation_;  // under which the connection was let through; requests are judged by it or a newer one
  std::size_t index_ = 0;
  std::uint64_t number_ = 0;
  std::size_t parsed_ = 0;  // bytes of `down_in_` that are known to hold no whole head
  Clock::time_point deadline_;

  Buffer down_in_;   // from the client, not yet understood
  Buffer down_out_;  // for the client
  Buffer up_in_;
  Buffer up_out_;
  Buffer head_;  // of the request under way, as received: it is judged again when rules change, or sent again
  UpstreamPtr up_;
  Exchange exchange_;
  std::unique_ptr<AuditObserver> observer_;
  bool relay_down_ended_ = false;  // the client's direction has been passed on to its end
  bool relay_up_ended_ = false;
};

}  // namespace egress::proxy
