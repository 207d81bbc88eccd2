#include "agent/proxy/http_response.h"

namespace egress::proxy {
namespace {

// "HTTP/1.1 200 OK"; the reason may be empty, and then its blank may be missing, as many servers write it.
ParseStatus ParseStatusLine(Cursor* cursor, ResponseHead* head) {
  constexpr std::string_view kForm = "HTTP/1.v ddd";
  for (const char form : kForm) {
    if (cursor->Done()) return ParseStatus::kIncomplete;
    const char c = *cursor->at++;
    if (form == 'v') {
      if (c != '0' && c != '1') return cursor->Fail("not HTTP/1.0 or HTTP/1.1");
      head->minor = c - '0';
    } else if (form == 'd') {
      if (c < '0' || c > '9') return cursor->Fail("status code is not a number");
      head->code = head->code * 10 + (c - '0');
    } else if (c != form) {
      return cursor->Fail("not an HTTP/1 status line");
    }
  }
  if (cursor->Done()) return ParseStatus::kIncomplete;
  if (head->code < 100) return cursor->Fail("status code below 100");
  if (*cursor->at != ' ') return ParseLineEnd(cursor);
  const char* begin = ++cursor->at;
  const auto printable = [](char c) { return (c >= 0x20 && c != 0x7f) || c == '\t' || c < 0; };
  while (!cursor->Done() && printable(*cursor->at)) ++cursor->at;
  head->reason = {begin, static_cast<std::size_t>(cursor->at - begin)};
  return ParseLineEnd(cursor);
}

const char* CheckBody(const ResponseContext& context, ResponseHead* head) {
  const Fields& fields = head->fields;
  if (fields.chunked && fields.content_length) return "Content-Length together with Transfer-Encoding";
  if (fields.chunked && head->minor == 0) return "Transfer-Encoding in HTTP/1.0";
  const bool tunnel = context.to_connect && head->code >= 200 && head->code < 300;
  head->bodiless = context.to_head || head->code < 200 || head->code == 204 || head->code == 304 || tunnel;
  head->body = BodyKind::kUntilClose;
  head->length = fields.content_length.value_or(0);
  if (fields.chunked) head->body = BodyKind::kChunked;
  if (fields.content_length) head->body = head->length > 0 ? BodyKind::kLength : BodyKind::kNone;
  if (head->bodiless) head->body = BodyKind::kNone;
  return nullptr;
}

}  // namespace

ParseStatus ParseResponse(std::string_view data, const ResponseContext& context, ResponseHead* head) {
  head->fields.Clear();
  head->code = 0;
  head->reason = {};
  head->problem = "";
  const std::string_view seen = data.substr(0, kMaxHeadBytes);
  Cursor cursor{seen.data(), seen.data() + seen.size()};
  ParseStatus status = ParseStatusLine(&cursor, head);
  if (status == ParseStatus::kComplete) status = ParseFields(&cursor, &head->fields);
  head->problem = cursor.problem;
  if (status == ParseStatus::kIncomplete) return IncompleteOrTooLarge(seen.size());
  if (status != ParseStatus::kComplete) return status;
  head->size = static_cast<std::size_t>(cursor.at - seen.data());
  const char* problem = CheckBody(context, head);
  if (problem != nullptr) {
    head->problem = problem;
    return ParseStatus::kMalformed;
  }
  const Fields& fields = head->fields;
  head->keep_alive = !fields.connection_close && (head->minor == 1 || fields.connection_keep_alive);
  return ParseStatus::kComplete;
}

}  // namespace egress::proxy
