#include "agent/proxy/http_fields.h"

#include <cctype>

namespace egress::proxy {
namespace {

constexpr std::uint8_t kToken = 1;
constexpr std::uint8_t kValue = 2;  // VCHAR, obs-text, SP and HTAB

constexpr std::array<std::uint8_t, 256> MakeClasses() {
  std::array<std::uint8_t, 256> classes{};
  for (int c = 0x20; c < 256; ++c) {
    if (c != 0x7f) classes[static_cast<std::size_t>(c)] |= kValue;
  }
  classes['\t'] |= kValue;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~")) classes[static_cast<std::uint8_t>(c)] |= kToken;
  for (int c = '0'; c <= '9'; ++c) classes[static_cast<std::size_t>(c)] |= kToken;
  for (int c = 'a'; c <= 'z'; ++c) classes[static_cast<std::size_t>(c)] |= kToken;
  for (int c = 'A'; c <= 'Z'; ++c) classes[static_cast<std::size_t>(c)] |= kToken;
  return classes;
}

constexpr std::array<std::uint8_t, 256> kClasses = MakeClasses();

bool Is(char c, std::uint8_t wanted) { return (kClasses[static_cast<std::uint8_t>(c)] & wanted) != 0; }

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

bool SameName(std::string_view left, std::string_view right) {
  if (left.size() != right.size()) return false;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (Lower(left[i]) != Lower(right[i])) return false;
  }
  return true;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  return text;
}

FieldName Classify(std::string_view name) {
  switch (name.size()) {
    case 2: return EqualsIgnoreCase(name, "te") ? FieldName::kHopByHop : FieldName::kOther;
    case 4: return EqualsIgnoreCase(name, "host") ? FieldName::kHost : FieldName::kOther;
    case 6: return EqualsIgnoreCase(name, "expect") ? FieldName::kExpect : FieldName::kOther;
    case 7:
      if (EqualsIgnoreCase(name, "upgrade")) return FieldName::kUpgrade;
      return EqualsIgnoreCase(name, "trailer") ? FieldName::kHopByHop : FieldName::kOther;
    case 10:
      if (EqualsIgnoreCase(name, "connection")) return FieldName::kConnection;
      if (EqualsIgnoreCase(name, "keep-alive")) return FieldName::kHopByHop;
      break;
    case 14:
      if (EqualsIgnoreCase(name, "content-length")) return FieldName::kContentLength;
      break;
    case 17:
      if (EqualsIgnoreCase(name, "transfer-encoding")) return FieldName::kTransferEncoding;
      break;
    default: break;
  }
  const bool proxy = name.size() > 6 && EqualsIgnoreCase(name.substr(0, 6), "proxy-");
  return proxy ? FieldName::kHopByHop : FieldName::kOther;
}

// Calls `visit` for each member of a comma-separated list of tokens; false where it is no such list.
template <typename Visit>
bool ForEachToken(std::string_view list, Visit visit) {
  while (true) {
    const std::size_t comma = list.find(',');
    const std::string_view token = Trim(list.substr(0, comma));
    for (const char c : token) {
      if (!IsTokenChar(c)) return false;
    }
    if (!token.empty()) visit(token);
    if (comma == std::string_view::npos) return true;
    list.remove_prefix(comma + 1);
  }
}

const char* NoteContentLength(std::string_view value, Fields* fields) {
  if (fields->content_length) return "Content-Length is repeated";
  fields->content_length = ParseDecimal(value);
  return fields->content_length ? nullptr : "Content-Length is not a plain number";
}

const char* NoteTransferEncoding(std::string_view value, Fields* fields) {
  if (fields->chunked) return "Transfer-Encoding is repeated";
  if (!EqualsIgnoreCase(value, "chunked")) return "Transfer-Encoding is not chunked alone";
  fields->chunked = true;
  return nullptr;
}

const char* NoteConnection(std::string_view value, Fields* fields) {
  const bool tokens = ForEachToken(value, [fields](std::string_view option) {
    if (EqualsIgnoreCase(option, "close")) fields->connection_close = true;
    if (EqualsIgnoreCase(option, "keep-alive")) fields->connection_keep_alive = true;
    if (EqualsIgnoreCase(option, "upgrade")) fields->connection_upgrade = true;
  });
  return tokens ? nullptr : "Connection is not a list of tokens";
}

// What a field says about the message, once its syntax is known to be good. Null, or what is wrong.
const char* Note(const Field& field, int upgrade_count, Fields* fields) {
  switch (field.kind) {
    case FieldName::kHost: fields->host = field.value; return ++fields->host_count > 1 ? "Host is repeated" : nullptr;
    case FieldName::kContentLength: return NoteContentLength(field.value, fields);
    case FieldName::kTransferEncoding: return NoteTransferEncoding(field.value, fields);
    case FieldName::kConnection: return NoteConnection(field.value, fields);
    case FieldName::kUpgrade:
      fields->upgrade_websocket = upgrade_count == 1 && EqualsIgnoreCase(field.value, "websocket");
      return nullptr;
    case FieldName::kExpect: fields->expect_continue = EqualsIgnoreCase(field.value, "100-continue"); return nullptr;
    default: return nullptr;
  }
}

// Marks the fields that one connection option names. Naming what frames or routes the message is an attack on the
// next hop.
const char* MarkNominated(std::string_view option, Fields* fields) {
  for (std::size_t i = 0; i < fields->count; ++i) {
    Field& field = fields->items[i];
    if (!SameName(field.name, option)) continue;
    if (field.kind == FieldName::kHost || field.kind == FieldName::kContentLength ||
        field.kind == FieldName::kTransferEncoding) {
      return "Connection names a header that is not hop-by-hop";
    }
    if (field.kind == FieldName::kOther || field.kind == FieldName::kExpect) field.nominated = true;
  }
  return nullptr;
}

const char* MarkAllNominated(Fields* fields) {
  const char* problem = nullptr;
  std::size_t options = 0;
  for (std::size_t i = 0; i < fields->count; ++i) {
    if (fields->items[i].kind != FieldName::kConnection) continue;
    ForEachToken(fields->items[i].value, [&](std::string_view option) {
      if (++options > kMaxHeaders) problem = "too many connection options";
      if (problem == nullptr) problem = MarkNominated(option, fields);
    });
  }
  return problem;
}

// NAME ":" OWS VALUE OWS CRLF
ParseStatus ParseField(Cursor* cursor, Field* field) {
  const char* p = cursor->at;
  while (p != cursor->end && Is(*p, kToken)) ++p;
  if (p == cursor->end) return ParseStatus::kIncomplete;
  if (p == cursor->at) return cursor->Fail(IsBlank(*p) ? "folded header line" : "header line without a name");
  if (*p != ':') return cursor->Fail(IsBlank(*p) ? "blank in front of the colon" : "header line without a colon");
  field->name = {cursor->at, static_cast<std::size_t>(p - cursor->at)};
  const char* begin = ++p;
  while (p != cursor->end && Is(*p, kValue)) ++p;
  if (p == cursor->end) return ParseStatus::kIncomplete;
  field->value = Trim({begin, static_cast<std::size_t>(p - begin)});
  cursor->at = p;
  const ParseStatus line_end = ParseLineEnd(cursor);
  if (line_end == ParseStatus::kComplete) field->kind = Classify(field->name);
  field->nominated = false;
  return line_end;
}

}  // namespace

void Fields::Clear() {
  count = 0;
  host = {};
  host_count = 0;
  content_length.reset();
  chunked = connection_close = connection_keep_alive = connection_upgrade = false;
  upgrade_websocket = expect_continue = false;
}

bool IsTokenChar(char c) { return Is(c, kToken); }

bool EqualsIgnoreCase(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (Lower(text[i]) != lower[i]) return false;
  }
  return true;
}

std::optional<std::uint64_t> ParseDecimal(std::string_view text) {
  if (text.empty() || text.size() > 18) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return value;
}

ParseStatus ParseLineEnd(Cursor* cursor) {
  const char* p = cursor->at;
  if (p == cursor->end) return ParseStatus::kIncomplete;
  if (*p == '\n') return cursor->Fail("line feed without carriage return");
  if (*p != '\r') return cursor->Fail("control character");
  if (p + 1 == cursor->end) return ParseStatus::kIncomplete;
  if (p[1] != '\n') return cursor->Fail("carriage return without line feed");
  cursor->at = p + 2;
  return ParseStatus::kComplete;
}

ParseStatus ParseFields(Cursor* cursor, Fields* fields) {
  int upgrades = 0;
  while (true) {
    if (cursor->Done()) return ParseStatus::kIncomplete;
    if (*cursor->at == '\r' || *cursor->at == '\n') {
      const ParseStatus status = ParseLineEnd(cursor);
      if (status != ParseStatus::kComplete) return status;
      const char* problem = MarkAllNominated(fields);
      return problem == nullptr ? ParseStatus::kComplete : cursor->Fail(problem);
    }
    Field field;
    const ParseStatus status = ParseField(cursor, &field);
    if (status != ParseStatus::kComplete) return status;
    if (fields->count == kMaxHeaders) return ParseStatus::kTooLarge;
    fields->items[fields->count++] = field;
    if (field.kind == FieldName::kUpgrade) ++upgrades;
    const char* problem = Note(field, upgrades, fields);
    if (problem != nullptr) return cursor->Fail(problem);
  }
}

}  // namespace egress::proxy
