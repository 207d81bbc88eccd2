// What is known of the request under way and of its response.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "agent/policy/model.h"
#include "agent/proxy/chunked.h"
#include "agent/proxy/http_request.h"
#include "agent/proxy/limits.h"

namespace egress::proxy {

// A body that is passed on piece by piece.
struct BodyState {
  BodyKind kind = BodyKind::kNone;
  std::uint64_t left = 0;  // kLength: bytes to come
  ChunkDecoder chunks;     // kChunked
  bool done = true;

  void Begin(BodyKind body, std::uint64_t length) {
    kind = body;
    left = length;
    chunks.Reset();
    done = body == BodyKind::kNone;
  }
};

// What an UpstreamTrafficSetting has to do with a request. Only where the policy that allows it has one.
struct Limited {
  policy::ObjectId policy;
  policy::Limits limits;
  std::shared_ptr<Usage> usage;
  Share request;
  Share pending;
  bool reclaimed = false;  // idle connections have been looked for, to make room
};

struct Exchange {
  BodyState body;                 // of the request
  int minor = 1;                  // of the client
  bool keep_alive = false;        // the client wants to go on
  bool expects_continue = false;  // the client may hold the body back until it is asked for it
  bool websocket = false;
  bool to_head = false;
  bool to_connect = false;
  bool idempotent = false;
  bool retried = false;
  bool upstream_deaf = false;  // it takes no more of the request, but may have answered

  bool answered = false;  // the final head of the response is on its way to the client
  BodyState response;
  bool recode = false;          // the response's chunks are made anew; else its body goes without framing
  bool upstream_keeps = false;  // the upstream connection can be used again
  bool client_keeps = false;
  std::unique_ptr<Limited> limited;

  void Begin(const RequestHead& request);
};

}  // namespace egress::proxy
