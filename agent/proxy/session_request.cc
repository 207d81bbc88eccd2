// Sessions, the client's side: heads, verdicts, the proxy's own answers, request bodies.
#include <algorithm>
#include <utility>

#include "agent/proxy/http_rewrite.h"
#include "agent/proxy/session.h"
#include "agent/proxy/worker.h"

namespace egress::proxy {
namespace {

constexpr char kTlsHandshake = 0x16;  // first byte of a TLS record with a ClientHello

// The text of a 404 by its reason. Nothing of the request is repeated in it.
std::string_view DenialText(egress_reason reason) {
  switch (reason) {
    case EGRESS_REASON_HTTP_HOST: return "denied by egress policy: no rule lists this host (http-host)\n";
    case EGRESS_REASON_HTTP_ROUTE: return "denied by egress policy: no route matches this request (http-route)\n";
    default: return "denied by egress policy: no rule covers this destination (policy)\n";
  }
}

}  // namespace

bool Session::StepHead() {
  // Answers to pipelined requests go out before more is read: a client that does not read is not served on.
  if (!FlushDownstream()) return false;
  if (Leaving() && down_in_.empty()) {
    StartLinger();
    return true;
  }
  const PodState state = worker_.StateOf(pod_);
  const bool choose = fresh_ && (protocols_ & EGRESS_HTTPS) != 0;  // by the first byte
  if (choose && down_in_.empty()) return ReadHead();
  if (choose && down_in_.data().front() == kTlsHandshake) return StartRelay(RelayKind::kTls, false);
  if (state.PassesAsSent() && !pod_.gone) return StartRelay(RelayKind::kAsSent, state.audit);
  if (down_in_.size() == parsed_) return ReadHead();
  fresh_ = false;
  // Each line end may complete the head; other bytes change nothing, so a slow head is not parsed a byte at a time.
  const std::string_view added = down_in_.data().substr(parsed_);
  const bool first = parsed_ == 0;
  parsed_ = down_in_.size();
  if (!first && added.find('\n') == std::string_view::npos && parsed_ < kMaxHeadBytes) return ReadHead();
  thread_local RequestHead request;
  switch (ParseRequest(down_in_.data(), original_.port, &request)) {
    case ParseStatus::kComplete: return StartExchange(request);
    case ParseStatus::kIncomplete:
      if (first) Deadline(worker_.settings().timeouts.head);
      return true;
    case ParseStatus::kMalformed:
      Refuse(400, EGRESS_REASON_HTTP_MALFORMED, std::string("bad request: ") + request.problem + "\n", nullptr, {});
      return true;
    case ParseStatus::kTooLarge:
      Refuse(431, EGRESS_REASON_HTTP_MALFORMED, "bad request: head is too large\n", nullptr, {});
      return true;
  }
  return false;
}

bool Session::ReadHead() {
  switch (down_.Read(&down_in_)) {
    case Io::kProgress: return true;
    case Io::kBlocked:
      // A connection that waits holds no memory.
      if (down_in_.empty()) down_in_.Clear();
      down_out_.Clear();
      return false;
    case Io::kEnd:
      // A head that is cut off is nobody's request.
      down_in_.empty() ? ClientEnded() : Cut();
      return false;
    case Io::kFull:
      Refuse(503, EGRESS_REASON_TABLE_FULL, "too many large requests at once\n", nullptr, {});
      return true;
    case Io::kFailed: Cut(); return false;
  }
  return false;
}

bool Session::StartExchange(const RequestHead& request) {
  exchange_.Begin(request);
  half_closed_ = half_closed_ || down_.half_closed();
  const std::uint32_t generation = std::max(worker_.StateOf(pod_).generation, generation_);
  const Ruling ruling = Judge(*pod_.pod->account, generation, original_.address, original_.port, request);
  const policy::Decision& decision = ruling.decision;
  if (!decision.allowed) {
    down_in_.Consume(request.size);
    if (decision.reason == EGRESS_REASON_HTTP_MALFORMED) {
      exchange_.keep_alive = false;
      Refuse(400, decision.reason, "bad request: host or path\n", &request, decision.policy);
      return true;
    }
    Refuse(404, decision.reason, DenialText(decision.reason), &request, decision.policy);
    return true;
  }
  if (ruling.limits != nullptr) {
    exchange_.limited = std::make_unique<Limited>();
    Limited& limited = *exchange_.limited;
    limited.policy = *decision.policy;
    limited.limits = *ruling.limits;
    limited.usage = pod_.pod->usages.Of(limited.policy);
    std::optional<Share> share = Share::Take(limited.usage, &Usage::requests, limited.limits.max_requests);
    if (!share) {
      down_in_.Consume(request.size);
      RefuseLimit(&request);
      return true;
    }
    limited.request = std::move(*share);
  }
  if (worker_.reports().Samples(pod_.pod->slot, decision.policy, request.authority)) {
    Report(EGRESS_ALLOW, EGRESS_REASON_RULE, &request, decision.policy);
  }
  if (!WriteRequest(request, request.websocket, &up_out_) || !KeepHead(request.size)) {
    Refuse(503, EGRESS_REASON_TABLE_FULL, "too many large requests at once\n", &request, decision.policy);
    return true;
  }
  return AcquireUpstream();
}

// Sets the head aside; what follows it stays in `down_in_`. Mostly nothing follows, and the block just moves.
bool Session::KeepHead(std::size_t size) {
  if (down_in_.size() == size) {
    head_ = std::move(down_in_);
    return true;
  }
  head_.Clear();
  if (!head_.Append(down_in_.data().substr(0, size))) return false;
  down_in_.Consume(size);
  return true;
}

void Session::Refuse(int code, egress_reason reason, std::string_view text, const RequestHead* request,
                     const std::optional<policy::ObjectId>& policy) {
  worker_.reports().Count(pod_.pod->slot, code, EGRESS_DENY, reason);
  Report(EGRESS_DENY, reason, request, policy);
  // Without a request there is no framing to go on by.
  if (request == nullptr) {
    exchange_ = Exchange();
    exchange_.body.Begin(BodyKind::kUntilClose, 0);
  }
  Answer(code, text);
}

void Session::Report(egress_verdict verdict, egress_reason reason, const RequestHead* request,
                     const std::optional<policy::ObjectId>& policy) {
  RequestEvent event;
  event.slot = pod_.pod->slot;
  event.verdict = verdict;
  event.reason = reason;
  event.source = down_.Peer();
  event.destination = original_.address;
  event.port = original_.port;
  if (request != nullptr) {
    event.host = request->authority;
    event.method = request->method;
    event.path = request->path;
  }
  event.policy = policy;
  worker_.reports().Tell(event, worker_.now());
}

// The proxy's own answer to the request under way. The connection goes on where what is left of the request's body
// is known to come, and not too much of it.
void Session::Answer(int code, std::string_view text) {
  const std::uint32_t most = worker_.settings().bounds.discarded_body;
  const BodyState& body = exchange_.body;
  const bool bounded =
      body.done || body.kind == BodyKind::kChunked || (body.kind == BodyKind::kLength && body.left <= most);
  const bool keep = exchange_.keep_alive && bounded && !exchange_.expects_continue && !Leaving();
  Persistence persistence = Persistence::kClose;
  if (keep) persistence = exchange_.minor == 0 ? Persistence::kKeepAlive : Persistence::kPlain;
  up_out_.Clear();
  if (!WriteAnswer(code, text, exchange_.to_head, persistence, &down_out_)) return Cut();
  if (!keep || body.done) return NextRequest(keep);
  head_.Clear();
  parsed_ = 0;
  exchange_.limited.reset();
  // From here on it counts what may still be dropped.
  if (body.kind == BodyKind::kChunked) exchange_.body.left = most;
  phase_ = Phase::kDiscard;
  Deadline(worker_.settings().timeouts.stall);
}

bool Session::StepDiscard() {
  if (!FlushDownstream() && dead()) return false;
  BodyState& body = exchange_.body;
  if (down_in_.empty()) {
    const Io io = down_.Read(&down_in_);
    if (io == Io::kEnd || io == Io::kFailed) Cut();
    return io == Io::kProgress;
  }
  std::size_t used = std::min<std::uint64_t>(body.left, down_in_.size());
  bool bad = false;
  if (body.kind == BodyKind::kChunked) {
    const ChunkDecoder::Piece piece = body.chunks.Next(down_in_.data());
    used = piece.consumed;
    body.done = piece.status == ChunkDecoder::Status::kDone;
    bad = piece.status == ChunkDecoder::Status::kBad || used > body.left;
  }
  down_in_.Consume(used);
  if (bad) {
    StartLinger();
    return true;
  }
  body.left -= used;
  if (body.kind == BodyKind::kLength) body.done = body.left == 0;
  if (body.done) NextRequest(true);
  return true;
}

// Sends the request upstream, its body as it comes. True: something moved.
bool Session::PumpRequest() {
  if (exchange_.upstream_deaf) return false;
  if (exchange_.body.done) {
    if (up_out_.empty()) return false;
    const Io io = up_->socket.Write(&up_out_);
    if (io == Io::kFailed) exchange_.upstream_deaf = true;
    return io != Io::kBlocked;
  }
  if (down_in_.empty()) {
    const Io io = down_.Read(&down_in_);
    if (io == Io::kEnd || io == Io::kFailed) {
      Cut();  // the client has given up in the middle of its request
      return false;
    }
    if (io != Io::kProgress && up_out_.empty()) return false;
  }
  return exchange_.body.kind == BodyKind::kLength ? SendBody() : EncodeBody();
}

bool Session::SendBody() {
  std::uint64_t sent = 0;
  const Io io = up_->socket.Write(&up_out_, &down_in_, exchange_.body.left, &sent);
  if (io == Io::kFailed) exchange_.upstream_deaf = true;
  exchange_.body.left -= sent;
  exchange_.body.done = exchange_.body.left == 0;
  return io != Io::kBlocked;
}

// Takes a chunked body apart and makes its chunks anew: what two parsers could read differently does not pass.
bool Session::EncodeBody() {
  bool moved = false;
  while (!down_in_.empty() && !exchange_.body.done && up_out_.size() < BlockPool::kSmall) {
    const std::size_t room = ReserveChunk(down_in_.size(), &up_out_);
    if (room == 0) break;
    const ChunkDecoder::Piece piece = exchange_.body.chunks.Next(down_in_.data().substr(0, room));
    if (piece.status == ChunkDecoder::Status::kBad) {
      DropUpstream();
      if (exchange_.answered) {
        Cut();
        return false;
      }
      Refuse(400, EGRESS_REASON_HTTP_MALFORMED, "bad request: body is not in the chunked coding\n", nullptr, {});
      return true;
    }
    AppendChunk(piece, &up_out_);
    down_in_.Consume(piece.consumed);
    exchange_.body.done = piece.status == ChunkDecoder::Status::kDone;
    moved = true;
  }
  if (up_out_.empty()) return moved;
  const Io io = up_->socket.Write(&up_out_);
  if (io == Io::kFailed) exchange_.upstream_deaf = true;
  return moved || io != Io::kBlocked;
}

}  // namespace egress::proxy
