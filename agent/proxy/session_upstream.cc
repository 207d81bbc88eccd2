// Sessions, the origin's side: where the upstream connection comes from, and what happens when it fails.
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/proxy/http_rewrite.h"
#include "agent/proxy/session.h"
#include "agent/proxy/worker.h"

namespace egress::proxy {

SocketClass Session::SocketKind() const { return {.tls = relay_ == RelayKind::kTls, .v6 = !original_.address.IsV4()}; }

// The request is in `up_out_`. It goes on the session's own upstream connection, else, if it may be sent twice, on an
// idle one, else on a new one: a request that may not must not meet a connection that its client did not know of.
bool Session::AcquireUpstream() {
  const bool repeatable = exchange_.idempotent && exchange_.body.done;
  if (up_ && !up_->socket.Quiet()) DropUpstream();
  if (!up_ && repeatable && !exchange_.websocket) up_ = pod_.idle.Take(original_);
  const Limited* limited = exchange_.limited.get();
  if (up_ && limited != nullptr && limited->limits.max_requests_per_connection.value_or(0) > 0 &&
      up_->requests >= *limited->limits.max_requests_per_connection) {
    DropUpstream();
  }
  if (!up_) return OpenUpstream();
  up_->owner = this;
  ++up_->requests;
  phase_ = Phase::kExchange;
  return true;
}

bool Session::OpenUpstream() {
  phase_ = Phase::kConnect;
  Deadline(worker_.settings().timeouts.connect);
  if (Limited* limited = exchange_.limited.get()) {
    std::optional<Share> share = Share::Take(limited->usage, &Usage::pending, limited->limits.max_pending_requests);
    if (!share) {
      RefuseLimit(nullptr);
      return true;
    }
    limited->pending = std::move(*share);
    if (limited->limits.connect_timeout_ms.value_or(0) > 0) {
      Deadline(std::chrono::milliseconds(*limited->limits.connect_timeout_ms));
    }
  }
  return TakeSocket();
}

// True where the session goes on at once, false where it waits or has ended.
bool Session::TakeSocket() {
  Share share;
  if (Limited* limited = exchange_.limited.get()) {
    std::optional<Share> taken = Share::Take(limited->usage, &Usage::connections, limited->limits.max_connections);
    if (!taken && !limited->reclaimed) {
      // Connections that only wait for their client's next request must not keep others out.
      limited->reclaimed = true;
      worker_.Reclaim(this, limited->usage);
      return phase_ != Phase::kConnect && !dead();
    }
    if (!taken) {
      RefuseLimit(nullptr);
      return true;
    }
    share = std::move(*taken);
  }
  Fd fd = worker_.TakeSocket(this, &pod_, SocketKind());
  if (!fd) return false;
  up_ = std::make_unique<Upstream>(std::move(fd), &pod_, original_);
  up_->owner = this;
  up_->connection = std::move(share);
  up_->socket.NoDelay();
  const int error = up_->socket.Connect(original_.address, original_.port);
  if (error != 0 && error != EINPROGRESS) {
    ConnectFailed(error);
  } else if (!worker_.Register(up_->socket.fd(), &up_->events)) {
    ConnectFailed(ENOMEM);
  } else if (error == 0) {
    Connected();
  }
  return phase_ != Phase::kConnect && !dead();
}

void Session::ConnectionsReclaimed() {
  if (phase_ == Phase::kConnect && !up_ && TakeSocket()) Advance();
}

void Session::SocketsArrived() {
  if (phase_ != Phase::kConnect || up_) return worker_.StopWaiting(this, &pod_);
  if (TakeSocket()) Advance();
}

void Session::Connected() {
  const int error = up_->socket.TakeError();
  if (error != 0) return ConnectFailed(error);
  up_->socket.set_writable();
  up_->connected = true;
  ++up_->requests;
  if (exchange_.limited) exchange_.limited->pending.Release();
  phase_ = relay_ == RelayKind::kNone ? Phase::kExchange : Phase::kRelay;
  Touch();
  if (phase_ != Phase::kRelay) return;
  deadline_ = Clock::time_point::max();
  down_.KeepAlive();
  up_->socket.KeepAlive();
}

void Session::ConnectFailed(int error) {
  DropUpstream();
  if (relay_ != RelayKind::kNone) return Cut();
  // The kernel refuses what the rules no longer cover, and they may have changed since this request was judged.
  RequestHead request;
  if (ParseKeptHead(&request)) {
    const Ruling ruling = JudgeAgain(request, worker_.StateOf(pod_).generation);
    if (!ruling.decision.allowed) {
      return Refuse(404, ruling.decision.reason, "denied by egress policy\n", &request, ruling.decision.policy);
    }
  }
  const bool late = error == ETIMEDOUT;
  worker_.reports().Count(pod_.pod->slot, late ? 504 : 503, EGRESS_ALLOW, EGRESS_REASON_RULE);
  Answer(late ? 504 : 503,
         late ? "the destination did not answer in time\n" : "the destination refused the connection\n");
}

// `request` may be null once the head has been set aside.
void Session::RefuseLimit(const RequestHead* request) {
  const std::optional<policy::ObjectId> policy = exchange_.limited->policy;
  RequestHead kept;
  if (request == nullptr && ParseKeptHead(&kept)) request = &kept;
  worker_.StopWaiting(this, &pod_);
  worker_.reports().Count(pod_.pod->slot, 503, EGRESS_DENY, EGRESS_REASON_LIMIT);
  Report(EGRESS_DENY, EGRESS_REASON_LIMIT, request, policy);
  Answer(503, "a limit of the UpstreamTrafficSetting is reached (limit)\n");
}

void Session::DropUpstream() {
  if (up_) worker_.Bury(std::move(up_));
  up_in_.Clear();
}

bool Session::ParseKeptHead(RequestHead* request) const {
  return !head_.empty() && ParseRequest(head_.data(), original_.port, request) == ParseStatus::kComplete;
}

Ruling Session::JudgeAgain(const RequestHead& request, std::uint32_t generation) const {
  return Judge(*pod_.pod->account, std::max(generation, generation_), original_.address, original_.port, request);
}

// An idle connection may be ended by the origin at the moment a request goes out. Nothing has been answered, so a
// request that may be repeated is, once and on a new connection.
bool Session::Retry() {
  const bool reused = up_->requests > 1;
  if (!reused || exchange_.retried || !exchange_.idempotent || exchange_.websocket ||
      exchange_.body.kind != BodyKind::kNone || exchange_.answered) {
    return false;
  }
  RequestHead request;
  if (!ParseKeptHead(&request)) return false;
  DropUpstream();
  up_out_.Clear();
  exchange_.retried = true;
  exchange_.upstream_deaf = false;
  if (!WriteRequest(request, false, &up_out_)) return false;
  OpenUpstream();
  return true;
}

// The upstream connection has ended before the response has.
void Session::UpstreamDied(bool reset) {
  if (!exchange_.answered) {
    if (Retry()) return;
    // A client knows how to go on when the connection that it used before is closed; a 502 would hide that from it.
    if (up_ && up_->requests > 1) return Cut();
    DropUpstream();
    exchange_.keep_alive = exchange_.keep_alive && exchange_.body.done;
    worker_.reports().Count(pod_.pod->slot, 502, EGRESS_ALLOW, EGRESS_REASON_RULE);
    return Answer(502, "the destination ended the connection without an answer\n");
  }
  // What has come is delivered. Where the client can tell that something is missing, an end is enough.
  const bool framed = exchange_.response.kind == BodyKind::kLength || exchange_.recode;
  if (!framed && (reset || exchange_.response.kind != BodyKind::kUntilClose)) return Cut();
  NextRequest(false);
}

void Session::Recheck(const PodState& state) {
  if (dead() || !worker_.settings().revoke) return;
  switch (relay_) {
    case RelayKind::kTls: return;  // the kernel judges the upstream socket, and cuts it
    case RelayKind::kAsSent:
      // Nobody knows what goes on in it, so it cannot outlive the reason for which it was let through.
      if (!state.PassesAsSent()) Cut();
      return;
    case RelayKind::kTunnel:
    case RelayKind::kNone: break;
  }
  if (phase_ != Phase::kConnect && phase_ != Phase::kExchange && phase_ != Phase::kRelay) return;
  if (state.PassesAsSent()) return;
  RequestHead request;
  if (!ParseKeptHead(&request)) return Cut();
  const Ruling ruling = JudgeAgain(request, state.generation);
  if (ruling.decision.allowed) return;
  worker_.reports().Count(pod_.pod->slot, 0, EGRESS_DENY, EGRESS_REASON_REVOKED);
  Report(EGRESS_DENY, EGRESS_REASON_REVOKED, &request, ruling.decision.policy);
  Cut();
}

}  // namespace egress::proxy
