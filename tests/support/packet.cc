#include "tests/support/packet.h"

#include <netinet/in.h>

namespace egress::test {
namespace {

void Put16(Bytes* bytes, std::uint32_t value) {
  bytes->push_back(static_cast<std::uint8_t>(value >> 8));
  bytes->push_back(static_cast<std::uint8_t>(value));
}

void Put32(Bytes* bytes, std::uint32_t value) {
  Put16(bytes, value >> 16);
  Put16(bytes, value);
}

void Set16(Bytes* bytes, std::size_t at, std::uint32_t value) {
  (*bytes)[at] = static_cast<std::uint8_t>(value >> 8);
  (*bytes)[at + 1] = static_cast<std::uint8_t>(value);
}

void Append(Bytes* bytes, std::span<const std::uint8_t> more) { bytes->insert(bytes->end(), more.begin(), more.end()); }

std::span<const std::uint8_t> Ip4Bytes(const Address& address) { return std::span(address.bytes).subspan(12); }

Bytes Tcp(const Packet& packet) {
  Bytes bytes;
  Put16(&bytes, packet.source_port);
  Put16(&bytes, packet.port);
  Put32(&bytes, packet.sequence);
  Put32(&bytes, packet.acknowledged);
  bytes.push_back(static_cast<std::uint8_t>(packet.tcp_words.value_or(5) << 4));
  bytes.push_back(packet.flags);
  Put16(&bytes, packet.window);
  Put32(&bytes, 0);  // checksum, urgent pointer
  return bytes;
}

Bytes Udp(const Packet& packet) {
  Bytes bytes;
  Put16(&bytes, packet.source_port);
  Put16(&bytes, packet.port);
  Put16(&bytes, static_cast<std::uint32_t>(8 + packet.payload.size()));
  Put16(&bytes, 0);
  return bytes;
}

Bytes Icmp(const Packet& packet) {
  Bytes bytes{packet.icmp_type, 0, 0, 0};
  Put16(&bytes, packet.source_port);
  Put16(&bytes, 1);
  return bytes;
}

// Layer 4 with its payload and checksum.
Bytes Layer4(const Packet& packet) {
  Bytes bytes;
  std::size_t checksum_at = 0;
  switch (packet.protocol) {
    case IPPROTO_TCP: bytes = Tcp(packet), checksum_at = 16; break;
    case IPPROTO_UDP:
    case IPPROTO_UDPLITE: bytes = Udp(packet), checksum_at = 6; break;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6: bytes = Icmp(packet), checksum_at = 2; break;
    default: break;
  }
  Append(&bytes, packet.payload);
  if (checksum_at != 0) {
    const bool pseudo = packet.protocol != IPPROTO_ICMP;
    const std::uint32_t start =
        pseudo ? PseudoHeaderSum(packet.source, packet.destination, packet.protocol, bytes.size()) : 0;
    Set16(&bytes, checksum_at, static_cast<std::uint16_t>(~InternetSum(bytes, start)));
  }
  if (packet.l4_bytes) bytes.resize(*packet.l4_bytes);
  return bytes;
}

Bytes Ip4(const Packet& packet) {
  const Bytes payload = Layer4(packet);
  const std::size_t header = 20 + packet.options.size();
  Bytes bytes;
  bytes.push_back(static_cast<std::uint8_t>((packet.version.value_or(4) << 4) |
                                            packet.header_words.value_or(static_cast<std::uint8_t>(header / 4))));
  bytes.push_back(0);
  Put16(&bytes, packet.length.value_or(static_cast<std::uint16_t>(header + payload.size())));
  Put16(&bytes, 0);
  Put16(&bytes, packet.fragment);
  bytes.push_back(packet.hop_limit);
  bytes.push_back(packet.protocol);
  Put16(&bytes, 0);
  Append(&bytes, Ip4Bytes(packet.source));
  Append(&bytes, Ip4Bytes(packet.destination));
  Append(&bytes, packet.options);
  Set16(&bytes, 10, static_cast<std::uint16_t>(~InternetSum(bytes)));
  Append(&bytes, payload);
  return bytes;
}

Bytes Ip6(const Packet& packet) {
  Bytes payload;
  for (std::size_t i = 0; i < packet.extensions.size(); ++i) {
    payload.push_back(i + 1 < packet.extensions.size() ? packet.extensions[i + 1].type : packet.protocol);
    Append(&payload, packet.extensions[i].rest);
  }
  Append(&payload, Layer4(packet));
  Bytes bytes;
  Put32(&bytes, static_cast<std::uint32_t>(packet.version.value_or(6)) << 28);
  Put16(&bytes, packet.length.value_or(static_cast<std::uint16_t>(payload.size())));
  bytes.push_back(packet.extensions.empty() ? packet.protocol : packet.extensions.front().type);
  bytes.push_back(packet.hop_limit);
  Append(&bytes, packet.source.bytes);
  Append(&bytes, packet.destination.bytes);
  Append(&bytes, payload);
  return bytes;
}

}  // namespace

Extension HopByHop() { return {IPPROTO_HOPOPTS, {0, 1, 4, 0, 0, 0, 0}}; }  // PadN
Extension DestinationOptions() { return {IPPROTO_DSTOPTS, {0, 1, 4, 0, 0, 0, 0}}; }
Extension Routing() { return {IPPROTO_ROUTING, {0, 4, 0, 0, 0, 0, 0}}; }

Extension Fragment(std::uint16_t field) {
  return {IPPROTO_FRAGMENT,
          {0, static_cast<std::uint8_t>(field >> 8), static_cast<std::uint8_t>(field), 0x12, 0x34, 0x56, 0x78}};
}

Bytes Frame(const Packet& packet) {
  const bool ip4 = packet.destination.IsV4() && !packet.force_ip6;
  Bytes bytes;
  Append(&bytes, packet.to);
  Append(&bytes, packet.from);
  for (const std::uint16_t tag : packet.tags) {
    Put16(&bytes, tag);
    Put16(&bytes, 7);
  }
  Put16(&bytes, packet.ether_type.value_or(ip4 ? 0x0800 : 0x86dd));
  Append(&bytes, ip4 ? Ip4(packet) : Ip6(packet));
  bytes.resize(bytes.size() + packet.padding);
  return bytes;
}

Bytes Frame(const Arp& arp) {
  Bytes bytes(6, 0xff);
  Append(&bytes, arp.from);
  Put16(&bytes, 0x0806);
  Put32(&bytes, 0x00010800);
  bytes.push_back(arp.hardware_length);
  bytes.push_back(4);
  Put16(&bytes, arp.operation);
  Append(&bytes, arp.sender_mac);
  Append(&bytes, Ip4Bytes(arp.sender));
  Append(&bytes, Mac{});
  Append(&bytes, Ip4Bytes(arp.target));
  return bytes;
}

std::uint16_t InternetSum(std::span<const std::uint8_t> bytes, std::uint32_t sum) {
  for (std::size_t i = 0; i < bytes.size(); ++i) sum += i % 2 == 0 ? bytes[i] << 8 : bytes[i];
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

std::uint16_t PseudoHeaderSum(const Address& source, const Address& destination, std::uint8_t protocol,
                              std::size_t length) {
  Bytes bytes;
  if (destination.IsV4()) {
    Append(&bytes, Ip4Bytes(source));
    Append(&bytes, Ip4Bytes(destination));
  } else {
    Append(&bytes, source.bytes);
    Append(&bytes, destination.bytes);
  }
  Put32(&bytes, static_cast<std::uint32_t>(length));
  Put32(&bytes, protocol);
  return InternetSum(bytes);
}

Bytes Text(std::string_view text) { return {text.begin(), text.end()}; }

}  // namespace egress::test
