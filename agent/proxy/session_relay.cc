// Sessions that pass bytes as they are: TLS on shared ports, WebSocket, and everything while nothing is refused.
#include <utility>

#include "agent/proxy/session.h"
#include "agent/proxy/worker.h"

namespace egress::proxy {

// What the client has sent so far stays in `down_in_` and goes first.
bool Session::StartRelay(RelayKind kind, bool audit) {
  relay_ = kind;
  fresh_ = false;
  exchange_ = Exchange();
  if (audit) {
    observer_ = std::make_unique<AuditObserver>(original_.port, [this](const RequestHead* request, const char*) {
      const egress_reason malformed = EGRESS_REASON_HTTP_MALFORMED;
      if (request == nullptr) {
        worker_.reports().Count(pod_.pod->slot, 0, EGRESS_AUDIT, malformed);
        return Report(EGRESS_AUDIT, malformed, nullptr, {});
      }
      const Ruling ruling = JudgeAgain(*request, worker_.StateOf(pod_).generation);
      const egress_verdict verdict = ruling.decision.allowed ? EGRESS_ALLOW : EGRESS_AUDIT;
      const egress_reason reason = ruling.decision.allowed ? EGRESS_REASON_RULE : ruling.decision.reason;
      worker_.reports().Count(pod_.pod->slot, 0, verdict, reason);
      if (verdict == EGRESS_AUDIT ||
          worker_.reports().Samples(pod_.pod->slot, ruling.decision.policy, request->authority)) {
        Report(verdict, reason, request, ruling.decision.policy);
      }
    });
    observer_->Feed(down_in_.data());
  }
  if (!up_) return OpenUpstream();
  up_->owner = this;
  phase_ = Phase::kRelay;
  deadline_ = Clock::time_point::max();
  return true;
}

bool Session::StepRelay() {
  // What an exchange left to be sent goes in front.
  if (!up_out_.empty() && up_->socket.Write(&up_out_) == Io::kFailed) {
    Cut();
    return false;
  }
  if (!FlushDownstream() && dead()) return false;
  if (up_out_.empty()) up_out_.Clear();
  if (down_out_.empty()) down_out_.Clear();
  bool moved = false;
  if (up_out_.empty()) moved = RelayOneWay(&down_, &down_in_, &up_->socket, &relay_down_ended_, observer_.get());
  if (dead()) return false;
  if (down_out_.empty()) moved = RelayOneWay(&up_->socket, &up_in_, &down_, &relay_up_ended_, nullptr) || moved;
  if (dead()) return false;
  if (relay_down_ended_ && relay_up_ended_) {
    Die();  // both directions were passed on to their ends: a FIN each
    return false;
  }
  return moved;
}

// Moves at most one buffer. True: something moved.
bool Session::RelayOneWay(Socket* from, Buffer* bytes, Socket* to, bool* ended, AuditObserver* observer) {
  bool moved = false;
  if (bytes->empty()) {
    if (*ended) return false;
    const Io io = from->Read(bytes);
    if (io == Io::kFailed) {
      Cut();
      return false;
    }
    if (io == Io::kEnd) {
      *ended = true;
      to->EndWriting();
      return true;
    }
    if (io != Io::kProgress) {
      bytes->Clear();
      return false;
    }
    if (observer != nullptr) observer->Feed(bytes->data());
    moved = true;
  }
  const Io io = to->Write(bytes);
  if (io == Io::kFailed) Cut();
  return !dead() && (moved || io == Io::kProgress);
}

}  // namespace egress::proxy
