// The head of an HTTP/1.0 or 1.1 request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/proxy/http_fields.h"

namespace egress::proxy {

enum class BodyKind : std::uint8_t { kNone, kLength, kChunked, kUntilClose };

struct RequestHead {
  std::string_view method;
  std::string_view target;     // what goes upstream: origin-form, "*", or the authority of CONNECT
  std::string_view path;       // what is judged: the target, empty for CONNECT
  std::string_view authority;  // Host as sent
  int minor = 1;               // HTTP/1.minor
  Fields fields;
  BodyKind body = BodyKind::kNone;
  std::uint64_t length = 0;  // of the body, with kLength
  bool keep_alive = false;   // the client wants the connection to go on
  bool websocket = false;    // asks, in due form, to become a WebSocket
  bool is_head = false;
  bool is_connect = false;
  bool idempotent = false;   // RFC 9110, 9.2.2
  std::size_t size = 0;      // bytes of the head
  const char* problem = "";  // what is wrong, where the status is kMalformed
};

// Parses the head at the beginning of `data`. `port` is that of the original destination: the authority of an
// absolute-form target and Host may differ in saying it. Views point into `data`.
ParseStatus ParseRequest(std::string_view data, std::uint16_t port, RequestHead* head);

}  // namespace egress::proxy
