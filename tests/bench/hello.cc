// A ClientHello as browsers send it (RFC 8446, 4.1.2): the extensions that are usual, in lengths that are usual. What is
// in them does not matter here; nobody answers it.
#include <cstdint>

#include "tests/bench/traffic.h"

namespace egress::bench {
namespace {

void AddNumber(std::string& to, std::size_t value, int bytes) {
  for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) to.push_back(static_cast<char>(value >> shift));
}

void AddExtension(std::string& to, std::uint16_t type, const std::string& body) {
  AddNumber(to, type, 2);
  AddNumber(to, body.size(), 2);
  to += body;
}

std::string ServerName(const std::string& name) {
  std::string list;
  AddNumber(list, 0, 1);  // host_name
  AddNumber(list, name.size(), 2);
  list += name;
  std::string body;
  AddNumber(body, list.size(), 2);
  return body + list;
}

}  // namespace

std::string ClientHello(std::size_t size, const std::string& name) {
  struct Usual {
    std::uint16_t type;
    std::size_t length;
  };
  static constexpr Usual kUsual[] = {{0x17, 0}, {0xff01, 1}, {0x0a, 14}, {0x0b, 2}, {0x23, 0}, {0x10, 14},
                                     {0x05, 5}, {0x0d, 24},  {0x33, 43}, {0x2d, 2}, {0x2b, 5}};
  std::string extensions;
  AddExtension(extensions, 0, ServerName(name));
  for (const Usual& one : kUsual) AddExtension(extensions, one.type, std::string(one.length, '\0'));

  std::string head = "\x03\x03" + std::string(32, 'r');
  AddNumber(head, 32, 1);  // session id
  head += std::string(32, 's');
  AddNumber(head, 34, 2);  // cipher suites
  head += std::string(34, '\x13');
  AddNumber(head, 1, 1);  // compression methods: null
  AddNumber(head, 0, 1);

  const std::size_t without_padding = 5 + 4 + head.size() + 2 + extensions.size() + 4;
  if (size < without_padding) Die("a ClientHello of so few bytes");
  AddExtension(extensions, 0x15, std::string(size - without_padding, '\0'));

  std::string body = head;
  AddNumber(body, extensions.size(), 2);
  body += extensions;
  std::string record("\x16\x03\x01", 3);
  AddNumber(record, body.size() + 4, 2);
  AddNumber(record, 1, 1);  // client_hello
  AddNumber(record, body.size(), 3);
  return record + body;
}

}  // namespace egress::bench
