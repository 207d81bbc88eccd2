// The head of an HTTP/1 response, parsed as strictly as a request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/proxy/http_fields.h"
#include "agent/proxy/http_request.h"

namespace egress::proxy {

// What of the request the framing of its response depends on (RFC 9112, 6.3).
struct ResponseContext {
  bool to_head = false;
  bool to_connect = false;
};

struct ResponseHead {
  int minor = 1;
  int code = 0;             // 100..999
  std::string_view reason;  // as sent, may be empty
  Fields fields;
  BodyKind body = BodyKind::kNone;
  std::uint64_t length = 0;
  bool keep_alive = false;  // the server lets the connection go on
  bool bodiless = false;    // by its code or method; Content-Length, if any, says nothing about what follows
  std::size_t size = 0;
  const char* problem = "";
};

ParseStatus ParseResponse(std::string_view data, const ResponseContext& context, ResponseHead* head);

}  // namespace egress::proxy
