#include "tests/support/client_hello.h"

#include <algorithm>

#include "bpf/egress.h"

namespace egress::test {
namespace {

void Put(Bytes* bytes, std::size_t value, int width) {
  for (int byte = width - 1; byte >= 0; --byte) bytes->push_back(static_cast<std::uint8_t>(value >> (8 * byte)));
}

void Append(Bytes* bytes, const Bytes& more) { bytes->insert(bytes->end(), more.begin(), more.end()); }

// Reads numbers and vectors from the front; `ok` turns false where there is not enough, and stays so.
struct Reader {
  const std::uint8_t* at;
  std::size_t left;
  bool ok = true;

  std::size_t Number(int width) {
    if (left < static_cast<std::size_t>(width)) ok = false;
    std::size_t value = 0;
    for (; ok && width > 0; --width, ++at, --left) value = value << 8 | *at;
    return value;
  }
  Reader Take(std::size_t length) {
    if (length > left) ok = false;
    if (!ok) return {at, 0, false};
    const Reader taken{at, length};
    at += length;
    left -= length;
    return taken;
  }
};

// The handshake message that the records carry, whole and nothing behind it in its last record.
std::optional<Bytes> MessageOf(const Bytes& stream) {
  Reader reader{stream.data(), stream.size()};
  Bytes message;
  for (;;) {
    const std::size_t type = reader.Number(1), major = reader.Number(1);
    reader.Number(1);
    const std::size_t length = reader.Number(2);
    const Reader record = reader.Take(length);
    if (!reader.ok || type != 22 || major != 3 || length < 1 || length > 16384) return std::nullopt;
    message.insert(message.end(), record.at, record.at + record.left);
    if (message.size() < 4) continue;
    const std::size_t announced = 4 + (message[1] << 16 | message[2] << 8 | message[3]);
    if (announced > EGRESS_HELLO_BYTES || message.size() > announced) return std::nullopt;
    if (message.size() == announced) return message;
  }
}

std::optional<std::string> NameIn(Reader extension) {
  Reader list = extension.Take(extension.Number(2));
  if (extension.left != 0 || list.Number(1) != 0) return std::nullopt;
  const Reader bytes = list.Take(list.Number(2));
  if (!extension.ok || !list.ok || list.left != 0 || bytes.left < 1 || bytes.left > 255) return std::nullopt;
  std::string name(bytes.at, bytes.at + bytes.left);
  if (name.back() == '.') name.pop_back();
  if (name.empty() || name.front() == '.' || name.back() == '.' || name.find("..") != std::string::npos) return {};
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    if (!plain) return std::nullopt;
  }
  return name;
}

}  // namespace

Bytes ClientHello::Message() const {
  Bytes body{3, 3};
  body.insert(body.end(), random_bytes, 0x5a);
  Put(&body, session_length.value_or(static_cast<std::uint8_t>(session.size())), 1);
  Append(&body, session);
  Put(&body, ciphers_length.value_or(static_cast<std::uint16_t>(ciphers.size())), 2);
  Append(&body, ciphers);
  Put(&body, compression_length.value_or(static_cast<std::uint8_t>(compression.size())), 1);
  Append(&body, compression);
  Bytes list;
  for (const Extension& extension : extensions) {
    Put(&list, extension.type, 2);
    Put(&list, extension.length.value_or(static_cast<std::uint16_t>(extension.body.size())), 2);
    Append(&list, extension.body);
  }
  if (has_extensions) Put(&body, extensions_length.value_or(static_cast<std::uint16_t>(list.size())), 2);
  Append(&body, list);
  Append(&body, trailer);
  Bytes message{type};
  Put(&message, length.value_or(static_cast<std::uint32_t>(body.size())), 3);
  Append(&message, body);
  return message;
}

Bytes ServerNames(const std::vector<std::string>& names, std::uint8_t name_type) {
  Bytes list;
  for (const std::string& name : names) {
    list.push_back(name_type);
    Put(&list, name.size(), 2);
    list.insert(list.end(), name.begin(), name.end());
  }
  Bytes body;
  Put(&body, list.size(), 2);
  Append(&body, list);
  return body;
}

ClientHello::Extension ServerName(std::string_view name) { return {0, ServerNames({std::string(name)}), {}}; }

ClientHello TypicalHello(std::string_view name, std::size_t message_bytes) {
  ClientHello hello;
  hello.extensions = {{0x000b, {3, 0, 1, 2}, {}},
                      ServerName(name),
                      {0x000a, {0, 4, 0, 29, 0, 23}, {}},
                      {0x0017, {}, {}},
                      {0x0010, {0, 9, 8, 'h', 't', 't', 'p', '/', '1', '.', '1'}, {}},
                      {0x002b, {4, 3, 4, 3, 3}, {}},
                      {0x0033, Bytes(38, 0x42), {}}};
  const std::size_t length = hello.Message().size() + 4;
  if (length < message_bytes) hello.extensions.push_back({0x0015, Bytes(message_bytes - length, 0), {}});
  return hello;
}

Bytes Records(const Bytes& message, std::size_t record_bytes, std::uint8_t type) {
  Bytes stream;
  for (std::size_t at = 0; at < message.size(); at += record_bytes) {
    const std::size_t length = std::min(record_bytes, message.size() - at);
    Append(&stream, {type, 3, 1});
    Put(&stream, length, 2);
    stream.insert(stream.end(), message.begin() + static_cast<std::ptrdiff_t>(at),
                  message.begin() + static_cast<std::ptrdiff_t>(at + length));
  }
  return stream;
}

std::optional<std::string> NameOf(const Bytes& stream) {
  const auto message = MessageOf(stream);
  if (!message || message->front() != 1) return std::nullopt;
  Reader body{message->data() + 4, message->size() - 4};
  body.Take(2 + 32);
  const std::size_t session = body.Number(1);
  body.Take(session);
  const std::size_t ciphers = body.Number(2);
  body.Take(ciphers);
  const std::size_t compression = body.Number(1);
  body.Take(compression);
  const std::size_t announced = body.Number(2);
  if (!body.ok || session > 32 || ciphers < 2 || ciphers % 2 != 0 || compression < 1 || announced != body.left)
    return {};
  std::optional<std::string> name;
  while (body.left > 0) {
    const std::size_t type = body.Number(2);
    const Reader extension = body.Take(body.Number(2));
    if (!body.ok) return std::nullopt;
    if (type != 0) continue;
    if (name) return std::nullopt;
    name = NameIn(extension);
    if (!name) return std::nullopt;
  }
  return name;
}

}  // namespace egress::test
