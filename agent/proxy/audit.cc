#include "agent/proxy/audit.h"

#include <algorithm>

namespace egress::proxy {

void AuditObserver::Feed(std::string_view bytes) {
  while (!bytes.empty() && state_ != State::kBlind) {
    bytes.remove_prefix(state_ == State::kHead ? FeedHead(bytes) : FeedBody(bytes));
  }
}

std::size_t AuditObserver::FeedHead(std::string_view bytes) {
  const std::size_t before = head_.size();
  // A line end is what may complete a head; without one there is nothing new to see.
  const bool worth_parsing = before == 0 || bytes.find('\n') != std::string_view::npos;
  head_.append(bytes.substr(0, kMaxHeadBytes - before));
  if (!worth_parsing && head_.size() < kMaxHeadBytes) return bytes.size();
  thread_local RequestHead request;
  const ParseStatus status = ParseRequest(head_, port_, &request);
  if (status == ParseStatus::kIncomplete) return bytes.size();
  if (status != ParseStatus::kComplete) {
    seen_(nullptr, status == ParseStatus::kTooLarge ? "head is too large" : request.problem);
    state_ = State::kBlind;
    return bytes.size();
  }
  seen_(&request, "");
  const std::size_t used = request.size - before;
  Follow(request);
  head_.clear();
  return used;
}

void AuditObserver::Follow(const RequestHead& request) {
  // Whether the origin agrees to another protocol is in its answer, which is not read.
  if (request.websocket || request.is_connect) {
    state_ = State::kBlind;
  } else if (request.body == BodyKind::kLength) {
    state_ = State::kLength;
    left_ = request.length;
  } else if (request.body == BodyKind::kChunked) {
    state_ = State::kChunked;
    chunks_.Reset();
  }
}

std::size_t AuditObserver::FeedBody(std::string_view bytes) {
  if (state_ == State::kLength) {
    const std::size_t used = std::min<std::uint64_t>(left_, bytes.size());
    left_ -= used;
    if (left_ == 0) state_ = State::kHead;
    return used;
  }
  const ChunkDecoder::Piece piece = chunks_.Next(bytes);
  if (piece.status == ChunkDecoder::Status::kDone) state_ = State::kHead;
  if (piece.status == ChunkDecoder::Status::kBad) {
    seen_(nullptr, "body is not in the chunked coding");
    state_ = State::kBlind;
  }
  return piece.consumed;
}

}  // namespace egress::proxy
