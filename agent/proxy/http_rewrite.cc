#include "agent/proxy/http_rewrite.h"

#include <algorithm>
#include <cstdio>

namespace egress::proxy {
namespace {

// More than all that may be added to a head: a status line, Connection, Transfer-Encoding.
constexpr std::size_t kAdded = 128;

// The bytes that a field section takes when it is written with ": " and CRLF.
std::size_t SizeOf(const Fields& fields) {
  std::size_t size = 0;
  for (std::size_t i = 0; i < fields.count; ++i) {
    size += fields.items[i].name.size() + fields.items[i].value.size() + 4;
  }
  return size;
}

void WriteField(std::string_view name, std::string_view value, Buffer* out) {
  out->AppendReserved(name);
  out->AppendReserved(": ");
  out->AppendReserved(value);
  out->AppendReserved("\r\n");
}

std::string_view PersistenceLine(Persistence persistence) {
  switch (persistence) {
    case Persistence::kPlain: return "";
    case Persistence::kKeepAlive: return "Connection: keep-alive\r\n";
    case Persistence::kClose: return "Connection: close\r\n";
    case Persistence::kUpgrade: return "Connection: Upgrade\r\n";
  }
  return "";
}

std::string_view ReasonPhrase(int code) {
  switch (code) {
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 431: return "Request Header Fields Too Large";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "Error";
  }
}

}  // namespace

bool WriteRequest(const RequestHead& head, bool upgrade, Buffer* out) {
  const Fields& fields = head.fields;
  if (!out->Reserve(head.method.size() + head.target.size() + SizeOf(fields) + kAdded)) return false;
  out->AppendReserved(head.method);
  out->AppendReserved(" ");
  out->AppendReserved(head.target);
  out->AppendReserved(" HTTP/1.1\r\n");
  bool upgrade_said = false;
  for (std::size_t i = 0; i < fields.count; ++i) {
    const Field& field = fields.items[i];
    if (field.kind == FieldName::kHopByHop || field.nominated) continue;
    if (field.kind == FieldName::kConnection) {
      if (!upgrade || upgrade_said) continue;
      upgrade_said = true;
      WriteField(field.name, "Upgrade", out);
    } else if (field.kind == FieldName::kTransferEncoding) {
      WriteField(field.name, "chunked", out);
    } else if (field.kind != FieldName::kUpgrade || upgrade) {
      WriteField(field.name, field.value, out);
    }
  }
  out->AppendReserved("\r\n");
  return true;
}

bool WriteResponse(const ResponseHead& head, Persistence persistence, bool chunked, Buffer* out) {
  const Fields& fields = head.fields;
  if (!out->Reserve(head.reason.size() + SizeOf(fields) + kAdded)) return false;
  const char code[] = {static_cast<char>('0' + head.code / 100), static_cast<char>('0' + head.code / 10 % 10),
                       static_cast<char>('0' + head.code % 10), ' '};
  out->AppendReserved("HTTP/1.1 ");
  out->AppendReserved({code, sizeof code});
  out->AppendReserved(head.reason);
  out->AppendReserved("\r\n");
  // RFC 9110, 8.6 and RFC 9112, 6.1: these codes have neither a length nor a coding.
  const bool unframed = head.code < 200 || head.code == 204;
  for (std::size_t i = 0; i < fields.count; ++i) {
    const Field& field = fields.items[i];
    if (field.kind == FieldName::kHopByHop || field.nominated || field.kind == FieldName::kConnection) continue;
    if (field.kind == FieldName::kContentLength && unframed) continue;
    if (field.kind == FieldName::kTransferEncoding) {
      if (chunked && !unframed) WriteField(field.name, "chunked", out);
    } else if (field.kind != FieldName::kUpgrade || persistence == Persistence::kUpgrade) {
      WriteField(field.name, field.value, out);
    }
  }
  out->AppendReserved(PersistenceLine(persistence));
  out->AppendReserved("\r\n");
  return true;
}

bool WriteAnswer(int code, std::string_view text, bool to_head, Persistence persistence, Buffer* out) {
  char line[160];
  const int length = std::snprintf(
      line, sizeof line, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n", code,
      ReasonPhrase(code).data(), text.size());
  const std::string_view rest = PersistenceLine(persistence);
  if (!out->Reserve(static_cast<std::size_t>(length) + rest.size() + 2 + text.size())) return false;
  out->AppendReserved({line, static_cast<std::size_t>(length)});
  out->AppendReserved(rest);
  out->AppendReserved("\r\n");
  if (!to_head) out->AppendReserved(text);
  return true;
}

std::size_t ReserveChunk(std::size_t wanted, Buffer* out) {
  constexpr std::size_t kAround = kChunkHeaderBytes + 8;  // CRLF behind the data, or the last chunk
  constexpr std::size_t kMost = 32U << 10;
  wanted = std::min(wanted, kMost);
  if (!out->Reserve(wanted + kAround) && !out->Reserve(kAround + 1)) return 0;
  return std::min(wanted, out->room() - kAround);
}

void AppendChunk(const ChunkDecoder::Piece& piece, Buffer* out) {
  if (piece.status == ChunkDecoder::Status::kDone) out->AppendReserved("0\r\n\r\n");
  if (piece.status != ChunkDecoder::Status::kData) return;
  char header[kChunkHeaderBytes];
  out->AppendReserved({header, WriteChunkHeader(piece.data.size(), header)});
  out->AppendReserved(piece.data);
  out->AppendReserved("\r\n");
}

}  // namespace egress::proxy
