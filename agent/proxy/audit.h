// What an audited pod would have been told: reads along with bytes that pass as they are.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "agent/proxy/chunked.h"
#include "agent/proxy/http_request.h"

namespace egress::proxy {

// Follows the requests in a client's stream. Once something is not HTTP, or the connection changes its protocol, it
// looks no further.
class AuditObserver {
 public:
  // `request` is null where the bytes are no request that would be passed; then `problem` says why.
  using Seen = std::function<void(const RequestHead* request, const char* problem)>;
  AuditObserver(std::uint16_t port, Seen seen) : port_(port), seen_(std::move(seen)) {}

  void Feed(std::string_view bytes);

 private:
  enum class State : std::uint8_t { kHead, kLength, kChunked, kBlind };
  std::size_t FeedHead(std::string_view bytes);  // how many of them are used up
  std::size_t FeedBody(std::string_view bytes);
  void Follow(const RequestHead& request);

  std::uint16_t port_;
  Seen seen_;
  State state_ = State::kHead;
  std::string head_;  // of a request that is not complete; at most kMaxHeadBytes
  std::uint64_t left_ = 0;
  ChunkDecoder chunks_;
};

}  // namespace egress::proxy
