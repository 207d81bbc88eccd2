// Sessions, from the origin to the client: response heads, bodies, the end of an exchange.
#include <algorithm>
#include <utility>

#include "agent/proxy/http_rewrite.h"
#include "agent/proxy/session.h"
#include "agent/proxy/worker.h"

namespace egress::proxy {
namespace {

// A login that belongs to the connection (NTLM, Negotiate): another client must not find itself logged in.
bool LogsInConnection(const Fields& fields) {
  for (std::size_t i = 0; i < fields.count; ++i) {
    const Field& field = fields.items[i];
    if (field.name.size() != 16 || !EqualsIgnoreCase(field.name, "www-authenticate")) continue;
    if (EqualsIgnoreCase(field.value.substr(0, 4), "ntlm") || EqualsIgnoreCase(field.value.substr(0, 9), "negotiate")) {
      return true;
    }
  }
  return false;
}

}  // namespace

// True: something moved, or the phase has changed.
bool Session::PumpResponse() {
  if (exchange_.answered && exchange_.response.done) {
    if (!FlushDownstream()) return false;
    FinishExchange();
    return true;
  }
  if (up_in_.empty()) {
    // What the client has not taken yet is not added to.
    if (down_out_.size() >= BlockPool::kSmall && !FlushDownstream()) return false;
    switch (up_->socket.Read(&up_in_)) {
      case Io::kProgress: break;
      case Io::kEnd:
        if (exchange_.answered && exchange_.response.kind == BodyKind::kUntilClose) {
          exchange_.response.done = true;
          return true;
        }
        UpstreamDied(false);
        return !dead();
      case Io::kFailed: UpstreamDied(true); return !dead();
      default:
        if (exchange_.upstream_deaf && !up_->socket.readable()) {
          UpstreamDied(true);
          return !dead();
        }
        if (!down_out_.empty()) FlushDownstream();
        return false;
    }
  }
  if (!exchange_.answered) return ReadResponseHead();
  return exchange_.response.kind == BodyKind::kChunked ? EncodeResponseBody() : SendResponseBody();
}

bool Session::ReadResponseHead() {
  thread_local ResponseHead response;
  const ResponseContext context{.to_head = exchange_.to_head, .to_connect = exchange_.to_connect};
  switch (ParseResponse(up_in_.data(), context, &response)) {
    case ParseStatus::kComplete: break;
    case ParseStatus::kIncomplete: {
      const Io io = up_->socket.Read(&up_in_);
      if (io == Io::kEnd || io == Io::kFailed) UpstreamDied(io == Io::kFailed);
      if (io == Io::kFull) BadResponse();
      return io != Io::kBlocked && !dead();
    }
    default: BadResponse(); return !dead();
  }
  if (response.code == 101 || (exchange_.to_connect && response.code >= 200 && response.code < 300)) {
    return StartTunnel(response);
  }
  return response.code < 200 ? ForwardInterim(response) : ForwardHead(response);
}

bool Session::ForwardInterim(const ResponseHead& response) {
  // HTTP/1.0 knows no interim responses.
  if (exchange_.minor == 1 && !WriteResponse(response, Persistence::kPlain, false, &down_out_)) {
    BadResponse();
    return !dead();
  }
  up_in_.Consume(response.size);
  FlushDownstream();
  return !dead();
}

bool Session::ForwardHead(const ResponseHead& response) {
  exchange_.response.Begin(response.body, response.length);
  const bool old_client = exchange_.minor == 0;
  exchange_.recode = response.fields.chunked && !old_client;
  const bool ends_with_connection =
      response.body == BodyKind::kUntilClose || (response.body == BodyKind::kChunked && old_client);
  // Where the rest of the request's body comes, or does not come, nobody can tell where the next request begins.
  exchange_.client_keeps = exchange_.keep_alive && !ends_with_connection && exchange_.body.done && !Leaving();
  const bool odd_length = response.bodiless && response.length > 0 && !exchange_.to_head && response.code != 304;
  exchange_.upstream_keeps = response.keep_alive && response.body != BodyKind::kUntilClose && !odd_length;
  up_->personal = up_->personal || LogsInConnection(response.fields);
  Persistence persistence = Persistence::kClose;
  if (exchange_.client_keeps) persistence = old_client ? Persistence::kKeepAlive : Persistence::kPlain;
  if (!WriteResponse(response, persistence, exchange_.recode, &down_out_)) {
    BadResponse();
    return !dead();
  }
  exchange_.answered = true;
  worker_.reports().Count(pod_.pod->slot, response.code, EGRESS_ALLOW, EGRESS_REASON_RULE);
  up_in_.Consume(response.size);
  return true;
}

bool Session::StartTunnel(const ResponseHead& response) {
  const bool asked = exchange_.to_connect || (exchange_.websocket && response.fields.upgrade_websocket);
  const Persistence words = exchange_.to_connect ? Persistence::kPlain : Persistence::kUpgrade;
  if (!asked || !WriteResponse(response, words, false, &down_out_)) {
    BadResponse();
    return !dead();
  }
  worker_.reports().Count(pod_.pod->slot, response.code, EGRESS_ALLOW, EGRESS_REASON_RULE);
  up_in_.Consume(response.size);
  relay_ = RelayKind::kTunnel;
  phase_ = Phase::kRelay;
  deadline_ = Clock::time_point::max();
  down_.KeepAlive();
  up_->socket.KeepAlive();
  // What is waiting to go out goes in front of what is relayed.
  if (!up_in_.empty() && down_out_.Append(up_in_.data())) up_in_.Clear();
  return true;
}

bool Session::SendResponseBody() {
  BodyState& body = exchange_.response;
  const bool until_close = body.kind == BodyKind::kUntilClose;
  std::uint64_t sent = 0;
  const std::uint64_t limit = until_close ? up_in_.size() : body.left;
  const Io io = down_.Write(&down_out_, &up_in_, limit, &sent);
  if (io == Io::kFailed) {
    Cut();
    return false;
  }
  if (!until_close) {
    body.left -= sent;
    body.done = body.left == 0;
  }
  return io == Io::kProgress;
}

bool Session::EncodeResponseBody() {
  BodyState& body = exchange_.response;
  bool moved = false;
  while (!up_in_.empty() && !body.done) {
    const std::size_t room = ReserveChunk(up_in_.size(), &down_out_);
    if (room == 0 || down_out_.size() >= BlockPool::kLarge / 2) break;
    const ChunkDecoder::Piece piece = body.chunks.Next(up_in_.data().substr(0, room));
    if (piece.status == ChunkDecoder::Status::kBad) {
      UpstreamDied(true);
      return !dead();
    }
    if (exchange_.recode) {
      AppendChunk(piece, &down_out_);
    } else {
      down_out_.AppendReserved(piece.data);
    }
    up_in_.Consume(piece.consumed);
    body.done = piece.status == ChunkDecoder::Status::kDone;
    moved = true;
  }
  const std::size_t before = down_out_.size();
  FlushDownstream();
  return !dead() && (moved || down_out_.size() < before);
}

void Session::BadResponse() {
  DropUpstream();
  if (exchange_.answered) return Cut();
  exchange_.keep_alive = exchange_.keep_alive && exchange_.body.done;
  worker_.reports().Count(pod_.pod->slot, 502, EGRESS_ALLOW, EGRESS_REASON_RULE);
  Answer(502, "the destination sent what is not a valid response\n");
}

void Session::FinishExchange() {
  const Limited* limited = exchange_.limited.get();
  const std::uint32_t most = limited == nullptr ? 0 : limited->limits.max_requests_per_connection.value_or(0);
  const bool worn = most > 0 && up_->requests >= most;
  const bool sent = exchange_.body.done && up_out_.empty() && !exchange_.upstream_deaf;
  // Bytes behind the response answer nothing that was asked.
  const bool reusable = exchange_.upstream_keeps && sent && !worn && up_in_.empty() && up_->socket.Quiet();
  if (!reusable) {
    DropUpstream();
  } else if (!exchange_.client_keeps && !up_->personal) {
    worker_.Park(std::move(up_));  // its client goes; it serves the next one
  } else {
    up_->idle_since = worker_.now();
  }
  up_in_.Clear();
  up_out_.Clear();
  NextRequest(exchange_.client_keeps);
}

}  // namespace egress::proxy
