#include "agent/proxy/session.h"

#include <netinet/in.h>

#include <cstring>
#include <utility>

#include "agent/proxy/worker.h"

namespace egress::proxy {
namespace {

// Steps of one session before others have their turn. A step moves at most one buffer.
constexpr int kStepsAtOnce = 12;

Address ToAddress(const __u8 (&bytes)[16]) {
  Address address;
  std::memcpy(address.bytes.data(), bytes, sizeof bytes);
  return address;
}

}  // namespace

void Exchange::Begin(const RequestHead& request) {
  body.Begin(request.body, request.length);
  minor = request.minor;
  keep_alive = request.keep_alive;
  expects_continue = request.fields.expect_continue && request.body != BodyKind::kNone;
  websocket = request.websocket;
  to_head = request.is_head;
  to_connect = request.is_connect;
  idempotent = request.idempotent;
  retried = upstream_deaf = answered = recode = upstream_keeps = client_keeps = false;
  response.Begin(BodyKind::kNone, 0);
  limited.reset();
}

Session::Session(Worker* worker, PodSlot* pod, Fd fd, const socket_verdict& verdict)
    : worker_(*worker),
      pod_(*pod),
      down_(std::move(fd)),
      original_{ToAddress(verdict.original), ntohs(verdict.original_port)},
      protocols_(verdict.protocols),
      generation_(verdict.generation),
      down_in_(&pod->memory),
      down_out_(&pod->memory),
      up_in_(&pod->memory),
      up_out_(&pod->memory),
      head_(&pod->memory) {}

void Session::Begin() {
  down_.NoDelay();
  if (!worker_.Register(down_.fd(), &events_)) return Cut();
  down_.set_writable();
  Deadline(worker_.settings().timeouts.idle);
  pod_.pod->sockets.Prepare(SocketKind());
  Advance();
}

void Session::OnDownstream(std::uint32_t flags) {
  if (dead()) return;
  down_.OnEvents(flags);
  if (down_.failed()) return phase_ == Phase::kLinger ? Die() : Cut();
  if (down_.half_closed() && (phase_ == Phase::kConnect || phase_ == Phase::kExchange)) half_closed_ = true;
  Advance();
}

void Session::OnUpstream(std::uint32_t flags) {
  if (dead() || !up_) return;
  up_->socket.OnEvents(flags);
  switch (phase_) {
    case Phase::kConnect:
      if (up_->socket.failed() || up_->socket.writable()) Connected();
      break;
    case Phase::kExchange:
    case Phase::kRelay: break;
    default:
      // Between requests an upstream has nothing to say; most likely it has ended the connection.
      if (up_->socket.readable()) DropUpstream();
      return;
  }
  if (!dead()) Advance();
}

void Session::Advance() {
  const Phase before = phase_;
  int steps = 0;
  while (!dead()) {
    if (steps == kStepsAtOnce) {
      worker_.Again(&pod_, &events_);
      break;
    }
    if (!Step()) break;
    ++steps;
  }
  worker_.Charge(&pod_, steps + 1);
  const bool moved = steps > 0;
  if (!dead() && (moved || phase_ != before)) Touch();
}

bool Session::Step() {
  switch (phase_) {
    case Phase::kHead: return StepHead();
    case Phase::kConnect: return false;
    case Phase::kExchange: {
      const bool up = PumpRequest();
      if (phase_ != Phase::kExchange) return !dead();
      const bool down = PumpResponse();
      return (up || down) && !dead();
    }
    case Phase::kDiscard: return StepDiscard();
    case Phase::kRelay: return StepRelay();
    case Phase::kLinger: return StepLinger();
    case Phase::kDead: return false;
  }
  return false;
}

void Session::Deadline(std::chrono::milliseconds after) { deadline_ = worker_.now() + after; }

// Something has moved: the peer has as long as it had, again. Heads, connects and the discarding of a body are
// bounded as a whole and set their deadlines where they begin.
void Session::Touch() {
  const Timeouts& timeouts = worker_.settings().timeouts;
  if (phase_ == Phase::kExchange) {
    const bool on_upstream = exchange_.body.done && up_out_.empty() && down_out_.empty() && up_in_.empty();
    Deadline(on_upstream ? timeouts.response : timeouts.stall);
  } else if (phase_ == Phase::kLinger && !fin_sent_) {
    Deadline(timeouts.stall);
  }
}

bool Session::Leaving() const { return leave_ || worker_.draining() || pod_.gone; }

bool Session::ReleaseUpstream(const Usage* usage) {
  if (!idle() || !up_ || !up_->connection.CountsAgainst(usage)) return false;
  DropUpstream();
  return true;
}

void Session::DropStaleUpstream(Clock::time_point before) {
  if (idle() && up_ && !up_->personal && up_->idle_since < before) DropUpstream();
}

void Session::Leave() {
  if (dead()) return;
  leave_ = true;
  if (up_ && phase_ != Phase::kConnect && phase_ != Phase::kExchange && phase_ != Phase::kRelay) DropUpstream();
  Advance();
}

// False while something is left to be sent, or the session is dead.
bool Session::FlushDownstream() {
  if (down_out_.empty()) return true;
  while (!down_out_.empty()) {
    const Io io = down_.Write(&down_out_);
    if (io == Io::kBlocked) return false;
    if (io == Io::kFailed) {
      Cut();
      return false;
    }
  }
  // Between requests it was the client's turn to read; now it is its turn to ask.
  if (phase_ == Phase::kHead && down_in_.empty()) Deadline(worker_.settings().timeouts.idle);
  return true;
}

void Session::NextRequest(bool keep) {
  head_.Clear();
  exchange_.limited.reset();
  parsed_ = 0;
  if (!keep || Leaving()) return StartLinger();
  phase_ = Phase::kHead;
  Deadline(down_out_.empty() ? worker_.settings().timeouts.idle : worker_.settings().timeouts.stall);
}

void Session::StartLinger() {
  if (up_) DropUpstream();
  up_in_.Clear();
  up_out_.Clear();
  down_in_.Clear();
  phase_ = Phase::kLinger;
  Deadline(worker_.settings().timeouts.stall);
}

// A close with unread bytes would be a RST, which takes the answer with it. So: FIN, and the client's bytes are
// dropped until it ends too.
bool Session::StepLinger() {
  if (!FlushDownstream()) return false;
  if (!fin_sent_) {
    down_.EndWriting();
    fin_sent_ = true;
    Deadline(worker_.settings().timeouts.linger);
  }
  const Io io = down_.Read(&down_in_);
  down_in_.Clear();
  if (io == Io::kEnd || io == Io::kFailed) Die();
  return io == Io::kProgress;
}

// The client has ended the connection between requests. A RST spares it the TIME_WAIT: all its connections go to one
// address and port, so it would soon run out of ports. One that ended its side early may still read: it gets a FIN.
void Session::ClientEnded() {
  if (up_) {
    UpstreamPtr upstream = std::move(up_);
    upstream->personal ? worker_.Bury(std::move(upstream)) : worker_.Park(std::move(upstream));
  }
  if (!half_closed_ && down_out_.empty() && down_.AllAcknowledged()) down_.Reset();
  Die();
}

void Session::Cut() {
  if (dead()) return;
  if (up_ && up_->socket.valid()) {
    worker_.Unregister(up_->socket.fd());
    up_->socket.Reset();
  }
  if (down_.valid()) down_.Reset();
  Die();
}

void Session::Die() {
  if (dead()) return;
  phase_ = Phase::kDead;
  if (up_) worker_.Bury(std::move(up_));
  down_.Close();
  exchange_.limited.reset();
  for (Buffer* buffer : {&down_in_, &down_out_, &up_in_, &up_out_, &head_}) buffer->Clear();
  worker_.Ended(this);
}

void Session::OnDeadline() {
  const bool unanswered = phase_ == Phase::kConnect || (phase_ == Phase::kExchange && !exchange_.answered);
  if (phase_ == Phase::kHead && down_in_.empty() && down_out_.empty()) {
    StartLinger();
  } else if (unanswered && relay_ == RelayKind::kNone && (exchange_.body.done || phase_ == Phase::kConnect)) {
    DropUpstream();
    worker_.StopWaiting(this, &pod_);
    worker_.reports().Count(pod_.pod->slot, 504, EGRESS_ALLOW, EGRESS_REASON_RULE);
    exchange_.keep_alive = exchange_.keep_alive && exchange_.body.done;
    Answer(504, "the destination did not answer in time\n");
  } else {
    return Cut();
  }
  Advance();
}

}  // namespace egress::proxy
