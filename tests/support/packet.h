// Packets for tests, byte by byte: well-formed unless told otherwise.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "agent/base/address.h"

namespace egress::test {

using Bytes = std::vector<std::uint8_t>;
using Mac = std::array<std::uint8_t, 6>;

inline constexpr std::size_t kEthernetBytes = 14;

enum TcpFlag : std::uint8_t { kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kUrg = 32 };

// An extension header of IPv6: its type, and what follows its first byte (the type of the next header).
struct Extension {
  std::uint8_t type = 0;
  Bytes rest;
};
Extension HopByHop();
Extension DestinationOptions();
Extension Routing();
// `field`: offset (in its upper 13 bits) and the M flag (bit 0), as on the wire.
Extension Fragment(std::uint16_t field);

struct Packet {
  Mac to{};
  Mac from{};
  std::vector<std::uint16_t> tags;          // EtherTypes of VLAN tags in front
  std::optional<std::uint16_t> ether_type;  // else that of the destination's family

  Address source;
  Address destination;
  std::uint8_t protocol = 0;  // IPPROTO_*
  std::uint8_t hop_limit = 64;

  // IPv4
  std::uint16_t fragment = 0;  // flags and offset, as on the wire
  Bytes options;               // a multiple of 4 bytes
  std::optional<std::uint8_t> header_words;
  std::optional<std::uint8_t> version;
  // IPv6
  bool force_ip6 = false;  // though the destination is an IPv4 address, in its mapped form
  std::vector<Extension> extensions;
  // IPv4: the total length; IPv6: the payload length
  std::optional<std::uint16_t> length;

  // TCP, UDP and UDP-Lite; ICMP echo has its identifier in `source_port`.
  std::uint16_t source_port = 0;
  std::uint16_t port = 0;
  std::uint32_t sequence = 0;
  std::uint32_t acknowledged = 0;
  std::uint16_t window = 0xffff;
  std::uint8_t flags = 0;
  std::optional<std::uint8_t> tcp_words;
  std::uint8_t icmp_type = 0;
  Bytes payload;

  // Only so many bytes of the header of layer 4 (and no payload).
  std::optional<std::size_t> l4_bytes;
  // Bytes behind the IP packet, as Ethernet pads.
  std::size_t padding = 0;
};

// The frame, with valid checksums where its parts have one.
Bytes Frame(const Packet& packet);

// RFC 826 over Ethernet.
struct Arp {
  Mac from{};  // of the frame
  std::uint16_t operation = 1;
  Mac sender_mac{};
  Address sender;
  Address target;
  std::uint8_t hardware_length = 6;
};
Bytes Frame(const Arp& arp);

// Sum of 16-bit words as of RFC 1071, folded, not inverted.
std::uint16_t InternetSum(std::span<const std::uint8_t> bytes, std::uint32_t sum = 0);
// The sum of the pseudo-header of TCP or UDP.
std::uint16_t PseudoHeaderSum(const Address& source, const Address& destination, std::uint8_t protocol,
                              std::size_t length);

Bytes Text(std::string_view text);

}  // namespace egress::test
