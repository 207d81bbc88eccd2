#include "agent/proxy/http_request.h"

#include <optional>

#include "agent/policy/decide.h"
#include "agent/proxy/http_path.h"

namespace egress::proxy {
namespace {

constexpr std::size_t kMaxMethod = 32;

ParseStatus ParseMethod(Cursor* cursor, RequestHead* head) {
  const char* p = cursor->at;
  while (p != cursor->end && IsTokenChar(*p)) ++p;
  const auto length = static_cast<std::size_t>(p - cursor->at);
  if (length > kMaxMethod) return cursor->Fail("method is too long");
  if (p == cursor->end) return ParseStatus::kIncomplete;
  if (length == 0 || *p != ' ') return cursor->Fail("not an HTTP/1 request line");
  head->method = {cursor->at, length};
  cursor->at = p + 1;
  return ParseStatus::kComplete;
}

ParseStatus ParseTarget(Cursor* cursor, RequestHead* head) {
  const char* p = cursor->at;
  while (p != cursor->end && *p > 0x20 && *p < 0x7f) ++p;
  if (p == cursor->end) return ParseStatus::kIncomplete;
  if (p == cursor->at || *p != ' ') return cursor->Fail("forbidden character in the request line");
  head->target = {cursor->at, static_cast<std::size_t>(p - cursor->at)};
  cursor->at = p + 1;
  return ParseStatus::kComplete;
}

ParseStatus ParseVersion(Cursor* cursor, RequestHead* head) {
  constexpr std::string_view kPrefix = "HTTP/1.";
  for (std::size_t i = 0; i <= kPrefix.size(); ++i) {
    if (cursor->Done()) return ParseStatus::kIncomplete;
    const char c = *cursor->at++;
    const bool fits = i < kPrefix.size() ? c == kPrefix[i] : (c == '0' || c == '1');
    if (!fits) return cursor->Fail("not HTTP/1.0 or HTTP/1.1");
    if (i == kPrefix.size()) head->minor = c - '0';
  }
  return ParseLineEnd(cursor);
}

bool SameAuthority(std::string_view left, std::string_view right, std::uint16_t port) {
  const std::optional<policy::Authority> a = policy::ParseAuthority(left);
  const std::optional<policy::Authority> b = policy::ParseAuthority(right);
  return a && b && a->host == b->host && a->port.value_or(port) == b->port.value_or(port);
}

// Splits "http://AUTHORITY/PATH" into its authority and, as the target, its path. The views stay in the input, so
// an absolute target must have a path.
const char* SplitAbsolute(RequestHead* head, std::uint16_t port) {
  constexpr std::string_view kScheme = "http://";
  const std::string_view target = head->target;
  if (target.size() <= kScheme.size() || !EqualsIgnoreCase(target.substr(0, kScheme.size()), kScheme)) {
    return "target is neither a path nor an http URL";
  }
  const std::string_view rest = target.substr(kScheme.size());
  const std::size_t slash = rest.find_first_of("/?#");
  const std::string_view authority = rest.substr(0, slash);
  if (!SameAuthority(authority, head->authority, port)) return "target and Host name different authorities";
  if (slash == std::string_view::npos) {
    head->target = "/";
    return nullptr;
  }
  if (rest[slash] != '/') return "URL without a path";
  head->target = rest.substr(slash);
  return nullptr;
}

const char* CheckTarget(RequestHead* head, std::uint16_t port) {
  head->is_connect = head->method == "CONNECT";
  if (head->is_connect) {
    if (!SameAuthority(head->target, head->authority, port)) return "target and Host name different authorities";
    head->path = {};
    return nullptr;
  }
  if (head->target == "*") {
    if (head->method != "OPTIONS") return "only OPTIONS has the target *";
    head->path = head->target;
    return nullptr;
  }
  if (head->target.front() != '/') {
    const char* problem = SplitAbsolute(head, port);
    if (problem != nullptr) return problem;
  }
  head->path = head->target;
  return TargetProblem(head->target);
}

const char* CheckBody(RequestHead* head) {
  const Fields& fields = head->fields;
  if (fields.chunked && fields.content_length) return "Content-Length together with Transfer-Encoding";
  if (fields.chunked && head->minor == 0) return "Transfer-Encoding in HTTP/1.0";
  if (head->is_connect && (fields.chunked || fields.content_length.value_or(0) != 0)) return "CONNECT with a body";
  head->body = BodyKind::kNone;
  head->length = fields.content_length.value_or(0);
  if (fields.chunked) head->body = BodyKind::kChunked;
  if (head->length > 0) head->body = BodyKind::kLength;
  return nullptr;
}

void Interpret(RequestHead* head) {
  const Fields& fields = head->fields;
  head->keep_alive = !fields.connection_close && (head->minor == 1 || fields.connection_keep_alive);
  head->is_head = head->method == "HEAD";
  head->websocket = head->minor == 1 && head->method == "GET" && head->body == BodyKind::kNone &&
                    fields.connection_upgrade && fields.upgrade_websocket;
  head->idempotent = head->method == "GET" || head->is_head || head->method == "OPTIONS" || head->method == "PUT" ||
                     head->method == "DELETE" || head->method == "TRACE";
}

const char* Check(RequestHead* head, std::uint16_t port) {
  if (head->fields.host_count != 1) return "Host is missing";
  head->authority = head->fields.host;
  if (!policy::ParseAuthority(head->authority)) return "Host is not a valid authority";
  const char* problem = CheckTarget(head, port);
  if (problem != nullptr) return problem;
  return CheckBody(head);
}

ParseStatus ParseAll(Cursor* cursor, RequestHead* head) {
  ParseStatus status = ParseMethod(cursor, head);
  if (status == ParseStatus::kComplete) status = ParseTarget(cursor, head);
  if (status == ParseStatus::kComplete) status = ParseVersion(cursor, head);
  if (status == ParseStatus::kComplete) status = ParseFields(cursor, &head->fields);
  return status;
}

}  // namespace

ParseStatus ParseRequest(std::string_view data, std::uint16_t port, RequestHead* head) {
  head->fields.Clear();
  head->problem = "";
  // What lies behind the bound is not looked at, so a head is refused at the same size however it arrives.
  const std::string_view seen = data.substr(0, kMaxHeadBytes);
  Cursor cursor{seen.data(), seen.data() + seen.size()};
  const ParseStatus status = ParseAll(&cursor, head);
  head->problem = cursor.problem;
  if (status == ParseStatus::kIncomplete) return IncompleteOrTooLarge(seen.size());
  if (status != ParseStatus::kComplete) return status;
  head->size = static_cast<std::size_t>(cursor.at - seen.data());
  const char* problem = Check(head, port);
  if (problem != nullptr) {
    head->problem = problem;
    return ParseStatus::kMalformed;
  }
  Interpret(head);
  return ParseStatus::kComplete;
}

}  // namespace egress::proxy
