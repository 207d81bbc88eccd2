#include "tests/bpf/reference_frames.h"

#include <netinet/in.h>

#include <algorithm>

namespace egress::test {
namespace {

std::vector<Address> Addresses(std::initializer_list<const char*> texts) {
  std::vector<Address> addresses;
  for (const char* text : texts) addresses.push_back(*ParseAddress(text));
  return addresses;
}

// The mesh, an excluded range, name servers, what rules cover and what none does; itself, loopback, groups.
const std::vector<Address> kTo4 =
    Addresses({"10.1.2.3", "198.51.100.9", "203.0.113.9", "203.0.113.53", "203.0.113.130", "192.0.2.1", "192.0.2.7",
               "127.0.0.1", "0.0.0.0", "224.0.0.251", "255.255.255.255", "169.254.169.254", "8.8.8.8"});
const std::vector<Address> kTo6 = Addresses({"fd00::3",
                                             "2001:db8:e::9",
                                             "2001:db8:f::9",
                                             "2001:db8:f::53",
                                             "2001:db8:f:1::9",
                                             "2001:db8::1",
                                             "2001:db8::7",
                                             "fe80::1",
                                             "fe80::7",
                                             "ff02::1",
                                             "ff02::16",
                                             "ff05::2",
                                             "::1",
                                             "::",
                                             "2620:fe::fe",
                                             "64:ff9b::a01:203",
                                             "64:ff9b::cb00:7109",
                                             "64:ff9b::cb00:7135",
                                             "64:ff9b::808:808",
                                             "2002:a01:203::1",
                                             "2002:c633:6409::9",
                                             "2002:808:808::1",
                                             "2001:0:a01:203::f5fe:fdfc",
                                             "2001:0:a01:203::f7f7:f7f7",
                                             "2001:0:808:808::f5fe:fdfc",
                                             "2001:0:cb00:7109::34ff:8ef6",
                                             "64:ff9b:1::a01:203"});

}  // namespace

const Address& ReferenceFrames::Own(bool v4) {
  for (;;) {
    const Address& own = Any(rules_.own);
    if (own.IsV4() == v4) return own;
  }
}

Address ReferenceFrames::AnyDestination(bool v4) {
  Address address = Any(v4 ? kTo4 : kTo6);
  if (Chance(10)) address.bytes[12 + Below(4)] = static_cast<std::uint8_t>(random_());
  return address;
}

Packet ReferenceFrames::Datagram(bool v4) {
  Packet packet;
  packet.protocol = IPPROTO_UDP;
  packet.destination = AnyDestination(v4);
  packet.source_port = static_cast<std::uint16_t>(40000 + Below(3));
  packet.port = Chance(60) ? 53 : static_cast<std::uint16_t>(443 + Below(2));
  packet.payload = Bytes(Below(30), 7);
  return packet;
}

Packet ReferenceFrames::Segment(bool v4) {
  Packet packet;
  packet.protocol = IPPROTO_TCP;
  packet.destination = AnyDestination(v4);
  packet.source_port = static_cast<std::uint16_t>(40000 + Below(2));
  packet.port = Chance(70) ? kReferencePort : 53;
  packet.sequence = 1000;
  packet.acknowledged = Chance(80) ? 9001 : static_cast<std::uint32_t>(random_());
  packet.flags = Any(std::vector<std::uint8_t>{kSyn, kSyn | kAck, kAck, kAck, kAck | kPsh, kFin | kAck, kRst,
                                               kRst | kAck, static_cast<std::uint8_t>(random_())});
  if (Chance(50)) packet.payload = Bytes(1 + Below(30), 7);
  if (!Chance(75)) return packet;
  using Kind = ReferenceSocket::Kind;
  ReferenceSocket socket;
  socket.kind = Any(std::vector<Kind>{Kind::kAllowed, Kind::kAllowed, Kind::kAllowed, Kind::kCameIn,
                                      Kind::kUndecidedTls, Kind::kDenied, Kind::kToProxy});
  socket.flow = {Own(v4), packet.destination, packet.source_port, packet.port};
  socket.handshake_left = Chance(50);
  socket.rules_changed = Chance(15);
  if (Chance(3)) ++socket.flow.remote_port;
  if (Chance(3)) ++socket.flow.local_port;
  if (Chance(3)) ++socket.flow.remote.bytes[15];
  if (Chance(3)) ++socket.flow.local.bytes[15];
  // The socket hooks store no such tuple as one that may leave.
  const std::vector<Address>& own = rules_.own;
  const bool honest = std::find(own.begin(), own.end(), socket.flow.local) != own.end();
  const bool to_itself =
      std::find(own.begin(), own.end(), socket.flow.remote) != own.end() || IsLoopback(socket.flow.remote);
  if ((socket.kind == Kind::kAllowed || socket.kind == Kind::kCameIn) && (!honest || to_itself)) {
    socket.kind = Kind::kDenied;
  }
  made_.socket = socket;
  return packet;
}

Packet ReferenceFrames::Echo(bool v4) {
  Packet packet;
  packet.protocol = static_cast<std::uint8_t>(v4 ? IPPROTO_ICMP : int{IPPROTO_ICMPV6});
  packet.destination = AnyDestination(v4);
  packet.icmp_type = static_cast<std::uint8_t>((v4 ? 0 : 128) + (v4 ? 8 * Below(2) : Below(2)));
  packet.source_port = packet.port = static_cast<std::uint16_t>(4242 + Below(2));
  return packet;
}

// An ICMP error about a packet that the record speaks of, or one close to it.
Packet ReferenceFrames::OwedError(bool v4) {
  Packet came = Chance(50) ? Datagram(v4) : Segment(v4);
  made_.socket.reset();
  came.source = came.destination;
  came.destination = Own(v4);
  std::swap(came.source_port, came.port);
  if (Chance(5)) ++came.source_port;
  const Bytes quoted = Frame(came);
  ReferenceRecord record;
  record.flow = {came.destination, came.source, came.port, came.source_port};
  record.protocol = came.protocol;
  if (Chance(10)) ++record.flow.local_port;
  record.within_30_seconds = Chance(80);
  record.pod_spoke_first = came.protocol == IPPROTO_UDP && Chance(20);
  made_.record = record;
  Packet packet;
  packet.protocol = static_cast<std::uint8_t>(v4 ? IPPROTO_ICMP : int{IPPROTO_ICMPV6});
  packet.icmp_type =
      Any(v4 ? std::vector<std::uint8_t>{3, 3, 11, 12, 4, 5} : std::vector<std::uint8_t>{1, 1, 2, 3, 4, 5});
  packet.destination = Chance(95) ? came.source : AnyDestination(v4);
  packet.source = came.destination;
  packet.payload.assign(quoted.begin() + kEthernetBytes, quoted.end());
  if (Chance(15)) packet.payload.resize(Below(packet.payload.size()) + 1);
  return packet;
}

Packet ReferenceFrames::Discovery() {
  Packet packet;
  packet.protocol = IPPROTO_ICMPV6;
  packet.icmp_type = Any(std::vector<std::uint8_t>{131, 132, 143, 133, 135, 135, 136, 136, 134, 137, 130});
  packet.destination = Any(Addresses(
      {"ff02::1", "ff02::16", "ff02::1:ff00:7", "fe80::1", "fd00::1", "2001:db8::1", "ff05::1", "2001:db8:f::9"}));
  packet.hop_limit = Chance(45) ? 255 : Chance(70) ? 1 : 64;
  if (Chance(30)) packet.source = *ParseAddress("::");
  const Address target = Chance(80) ? Own(false) : *ParseAddress("2001:db8::8");
  packet.payload.assign(target.bytes.begin(), target.bytes.end());
  if (Chance(10)) packet.payload.resize(Below(16));
  if (Chance(30)) packet.extensions = {HopByHop()};
  return packet;
}

Arp ReferenceFrames::AnyArp() {
  Arp arp{rules_.mac, static_cast<std::uint16_t>(1 + Below(2)), rules_.mac, Own(true), *ParseAddress("192.0.2.1"), 6};
  if (Chance(10)) arp.sender = *ParseAddress("0.0.0.0");
  if (Chance(10)) arp.sender = *ParseAddress("192.0.2.1");
  if (Chance(5)) ++arp.sender_mac[5];
  return arp;
}

// What may stand around any packet.
void ReferenceFrames::Dress(Packet* packet) {
  const bool v4 = packet->destination.IsV4();
  packet->to = {2, 0, 0, 0, 0, 1};
  packet->from = rules_.mac;
  if (packet->source == Address()) packet->source = Own(v4);
  if (Chance(3)) ++packet->source.bytes[15];
  if (Chance(2)) ++packet->from[5];
  if (Chance(1)) packet->tags = {0x8100};
  if (Chance(1)) packet->hop_limit = 0;
  if (Chance(10)) packet->padding = Below(20);
  if (Chance(3)) packet->length = static_cast<std::uint16_t>(Below(80));
  if (v4) {
    if (Chance(3)) packet->options = {1, 1, 1, 0};
    if (Chance(4)) packet->fragment = Any(std::vector<std::uint16_t>{0x4000, 0x4000, 0x2000, 0x8000, 1, 0x2010});
    return;
  }
  if (!Chance(12)) return;
  packet->extensions.clear();
  for (std::size_t left = 1 + Below(Chance(20) ? 10 : 3); left > 0; --left) {
    packet->extensions.push_back(Chance(10)   ? Routing()
                                 : Chance(30) ? Fragment(Chance(60) ? 0 : static_cast<std::uint16_t>(random_()))
                                              : DestinationOptions());
  }
  if (Chance(40)) packet->extensions.front() = HopByHop();
  if (Chance(10)) packet->extensions.back().type = Any(std::vector<std::uint8_t>{51, 135, 139, 140, 50, 59});
  if (Chance(10)) packet->extensions.back().rest[0] = static_cast<std::uint8_t>(Below(4));
}

// Something came in to the pod: what this packet may answer, or something close to it.
void ReferenceFrames::Remember(const Packet& packet) {
  if (made_.record || !Chance(50)) return;
  ReferenceRecord record;
  record.flow = {packet.source, packet.destination, packet.source_port, packet.port};
  record.protocol = packet.protocol;
  record.within_30_seconds = Chance(85);
  record.pod_spoke_first = packet.protocol != IPPROTO_TCP && Chance(15);
  record.syn_sequence = 9000;
  if (Chance(5)) ++record.flow.remote_port;
  if (Chance(3)) ++record.flow.local.bytes[15];
  made_.record = record;
}

// Mostly in the headers.
void ReferenceFrames::Mutate(Bytes* frame) {
  for (std::size_t edits = 1 + Below(3); edits > 0; --edits) {
    const std::size_t at = Chance(85) ? 6 + Below(std::min<std::size_t>(frame->size() - 6, 80)) : Below(frame->size());
    std::uint8_t& byte = (*frame)[at];
    byte = Chance(50) ? static_cast<std::uint8_t>(random_()) : byte ^ static_cast<std::uint8_t>(1U << Below(8));
  }
  if (Chance(15)) frame->resize(std::max<std::size_t>(kEthernetBytes, Below(frame->size())));
}

Packet ReferenceFrames::AnyPacket() {
  const bool v4 = Chance(45);
  switch (Below(12)) {
    case 0:
    case 1:
    case 2:
    case 3: return Segment(v4);
    case 4:
    case 5:
    case 6: return Datagram(v4);
    case 7: return Echo(v4);
    case 8:
    case 9: return OwedError(v4);
    case 10: return Discovery();
    default: break;
  }
  Packet packet = Datagram(v4);
  packet.protocol =
      static_cast<std::uint8_t>(Chance(50) ? random_() : Any(std::vector<int>{1, 2, 4, 41, 47, 50, 58, 132, 136}));
  packet.icmp_type = static_cast<std::uint8_t>(random_());
  return packet;
}

ReferenceCase ReferenceFrames::Next() {
  made_ = {};
  if (Chance(2)) {  // noise
    made_.frame.resize(kEthernetBytes + Below(120));
    for (std::uint8_t& byte : made_.frame) byte = static_cast<std::uint8_t>(random_());
    if (Chance(80)) std::copy(rules_.mac.begin(), rules_.mac.end(), made_.frame.begin() + 6);
    if (Chance(80)) made_.frame[12] = Chance(50) ? 0x08 : 0x86;
    if (Chance(80)) made_.frame[13] = made_.frame[12] == 0x08 ? 0x00 : 0xdd;
    return made_;
  }
  if (Chance(4)) {
    made_.frame = Frame(AnyArp());
    if (Chance(10)) made_.frame.resize(kEthernetBytes + Below(28));
  } else {
    Packet packet = AnyPacket();
    Dress(&packet);
    Remember(packet);
    made_.frame = Frame(packet);
  }
  if (Chance(30)) Mutate(&made_.frame);
  return made_;
}

}  // namespace egress::test
