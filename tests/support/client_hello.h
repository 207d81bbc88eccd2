// ClientHellos for tests (RFC 8446, 4.1.2): well-formed, until a test changes one of the parts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/packet.h"

namespace egress::test {

struct ClientHello {
  struct Extension {
    std::uint16_t type = 0;
    Bytes body;
    std::optional<std::uint16_t> length;  // what its length field says
  };

  std::uint8_t type = 1;
  std::optional<std::uint32_t> length;  // what the message's length field says
  std::size_t random_bytes = 32;
  Bytes session = Bytes(32, 0x11);
  std::optional<std::uint8_t> session_length;
  Bytes ciphers = {0x13, 0x01, 0x13, 0x02, 0xc0, 0x2f};
  std::optional<std::uint16_t> ciphers_length;
  Bytes compression = {0};
  std::optional<std::uint8_t> compression_length;
  std::vector<Extension> extensions;
  bool has_extensions = true;  // the field with their length is there
  std::optional<std::uint16_t> extensions_length;
  Bytes trailer;  // behind the extensions, inside the message

  Bytes Message() const;
};

// The body of a server_name extension with these names, all of `name_type` (RFC 6066, 3).
Bytes ServerNames(const std::vector<std::string>& names, std::uint8_t name_type = 0);
ClientHello::Extension ServerName(std::string_view name);

// As clients send it: server_name among other extensions, padded (RFC 7685) to `message_bytes` if it is shorter.
ClientHello TypicalHello(std::string_view name, std::size_t message_bytes = 508);

// The message in TLS records (RFC 8446, 5.1) of at most `record_bytes`.
Bytes Records(const Bytes& message, std::size_t record_bytes = 16384, std::uint8_t type = 22);

// What SEMANTICS 4 makes of a stream that begins with a whole ClientHello: the name that it says, in lower case;
// nullopt where it is refused or not complete. Plain and not incremental: what the kernel's parser is measured by.
std::optional<std::string> NameOf(const Bytes& stream);

}  // namespace egress::test
