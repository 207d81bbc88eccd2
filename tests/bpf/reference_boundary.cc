#include "tests/bpf/reference_boundary.h"

#include <netinet/in.h>

#include <algorithm>

namespace egress::test {
namespace {

using View = std::span<const std::uint8_t>;

std::uint16_t Read16(View bytes, std::size_t at) { return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]); }
std::uint32_t Read32(View bytes, std::size_t at) {
  return static_cast<std::uint32_t>(Read16(bytes, at)) << 16 | Read16(bytes, at + 2);
}

Address Read4(View bytes, std::size_t at) {
  Address address;
  address.bytes[10] = address.bytes[11] = 0xff;
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), 4, address.bytes.begin() + 12);
  return address;
}
Address Read6(View bytes, std::size_t at) {
  Address address;
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), 16, address.bytes.begin());
  return address;
}

bool Covers(const std::vector<Prefix>& prefixes, const Address& address) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const Prefix& prefix) { return prefix.Contains(address); });
}
bool Contains(const std::vector<Address>& addresses, const Address& address) {
  return std::find(addresses.begin(), addresses.end(), address) != addresses.end();
}

bool IsLinkScope(const Address& address) {
  static const Prefix kLinkLocal = *ParsePrefix("fe80::/10");
  return kLinkLocal.Contains(address) || (address.bytes[0] == 0xff && (address.bytes[1] & 0x0f) == 2);
}

// An address and the IPv4 addresses that it stands for: the forms of issue and SEMANTICS, spelled out once more.
std::vector<Address> Forms(const Address& address) {
  static const Prefix kNat64 = *ParsePrefix("64:ff9b::/96"), k6to4 = *ParsePrefix("2002::/16"),
                      kTeredo = *ParsePrefix("2001::/32");
  std::vector<Address> forms{address};
  const View bytes(address.bytes);
  if (kNat64.Contains(address)) forms.push_back(Read4(bytes, 12));
  if (k6to4.Contains(address)) forms.push_back(Read4(bytes, 2));
  if (kTeredo.Contains(address)) {
    forms.push_back(Read4(bytes, 4));
    Address client = Read4(bytes, 12);
    for (std::size_t i = 12; i < 16; ++i) client.bytes[i] = static_cast<std::uint8_t>(~client.bytes[i]);
    forms.push_back(client);
  }
  return forms;
}

enum TcpBits { kBitFin = 1, kBitSyn = 2, kBitRst = 4, kBitAck = 16 };

}  // namespace

bool IsLoopback(const Address& address) {
  static const Prefix kLoopback4 = *ParsePrefix("127.0.0.0/8");
  static const std::vector<Address> kLoopback = {*ParseAddress("0.0.0.0"), *ParseAddress("::"), *ParseAddress("::1")};
  return kLoopback4.Contains(address) || Contains(kLoopback, address);
}

bool ReferenceBoundary::IsOwn(const Address& address) const { return Contains(rules_.own, address); }

std::optional<bool> ReferenceBoundary::MayLeave(View frame, const std::optional<ReferenceSocket>& socket,
                                                const std::optional<ReferenceRecord>& record) const {
  socket_ = &socket;
  record_ = &record;
  if (rules_.open || rules_.audit) return true;
  if (frame.size() < 14 || !std::equal(rules_.mac.begin(), rules_.mac.end(), frame.begin() + 6)) return false;
  const View packet = frame.subspan(14);
  switch (Read16(frame, 12)) {
    case 0x0800: return Ip4MayLeave(packet);
    case 0x86dd: return Ip6MayLeave(packet);
    case 0x0806: return ArpMayLeave(packet);
    default: return false;
  }
}

// RFC 826 for Ethernet and IPv4, of the pod's own addresses, or a probe (RFC 5227).
bool ReferenceBoundary::ArpMayLeave(View packet) const {
  if (packet.size() < 28) return false;
  if (Read16(packet, 0) != 1 || Read16(packet, 2) != 0x0800 || packet[4] != 6 || packet[5] != 4) return false;
  if (!std::equal(rules_.mac.begin(), rules_.mac.end(), packet.begin() + 8)) return false;
  return Read32(packet, 14) == 0 || IsOwn(Read4(packet, 14));
}

std::optional<bool> ReferenceBoundary::Ip4MayLeave(View packet) const {
  if (packet.size() < 20 || packet[0] >> 4 != 4) return false;
  const Ip ip{true, packet[8], Read4(packet, 12), Read4(packet, 16)};
  const std::size_t total = Read16(packet, 2);
  const bool whole = total >= 20 && total <= packet.size() && (packet[0] & 15) == 5;
  const std::uint16_t fragment = Read16(packet, 6);
  if (!whole || (fragment & 0xbfff) != 0 || ip.hop_limit == 0) return RestMayLeave(ip, std::nullopt);
  return RestMayLeave(ip, Layer4{packet[9], packet.subspan(20, total - 20)});
}

std::optional<bool> ReferenceBoundary::Ip6MayLeave(View packet) const {
  if (packet.size() < 40 || packet[0] >> 4 != 6) return false;
  const Ip ip{false, packet[7], Read6(packet, 8), Read6(packet, 24)};
  if (ip.source.IsV4() || ip.destination.IsV4()) return false;
  const std::size_t length = Read16(packet, 4);
  if (ip.hop_limit == 0 || 40 + length > packet.size()) return RestMayLeave(ip, std::nullopt);
  Layer4 rest{packet[6], packet.subspan(40, length)};
  for (int headers = 0;; ++headers) {
    constexpr std::uint8_t kHopByHop = 0, kFragment = 44, kOptions = 60;
    // Routing, authentication, mobility, HIP, SHIM6.
    for (const std::uint8_t refused : {43, 51, 135, 139, 140}) {
      if (rest.protocol == refused) return RestMayLeave(ip, std::nullopt);
    }
    if (rest.protocol != kHopByHop && rest.protocol != kFragment && rest.protocol != kOptions) break;
    if (headers == 8 || rest.bytes.size() < 8) return RestMayLeave(ip, std::nullopt);
    if (rest.protocol == kHopByHop && headers > 0) return RestMayLeave(ip, std::nullopt);
    const bool whole = (Read16(rest.bytes, 2) & 0xfff9) == 0;  // offset 0, no more fragments
    if (rest.protocol == kFragment && !whole) return RestMayLeave(ip, std::nullopt);
    const std::size_t size = rest.protocol == kFragment ? 8 : 8 * (std::size_t{rest.bytes[1]} + 1);
    if (size > rest.bytes.size()) return RestMayLeave(ip, std::nullopt);
    rest = {rest.bytes[0], rest.bytes.subspan(size)};
  }
  return RestMayLeave(ip, rest);
}

// `rest` is missing where the packet could not be taken apart: then only its addresses can speak for it.
std::optional<bool> ReferenceBoundary::RestMayLeave(const Ip& ip, const std::optional<Layer4>& rest) const {
  if (rest && IsDiscovery(ip, *rest)) return true;
  if (!IsOwn(ip.source)) return false;
  if (IsOwn(ip.destination) || IsLoopback(ip.destination)) return false;
  if (NeedsNoRule(ip.destination)) return true;
  if (!rest) return false;
  switch (rest->protocol) {
    case IPPROTO_TCP: return TcpMayLeave(ip, rest->bytes);
    case IPPROTO_UDP:
    case IPPROTO_UDPLITE:
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6: return rest->bytes.size() >= 8 && OtherMayLeave(ip, *rest);
    default: return rules_.other_protocols;
  }
}

// Mesh and exclusions, of every form of the address.
bool ReferenceBoundary::NeedsNoRule(const Address& destination) const {
  for (const Address& form : Forms(destination)) {
    if (!Covers(rules_.mesh, form) && !Covers(rules_.excluded, form)) return false;
  }
  return true;
}

std::optional<bool> ReferenceBoundary::TcpMayLeave(const Ip& ip, View segment) const {
  if (segment.size() < 20) return false;
  const std::size_t header = (segment[12] >> 4) * 4U;
  if (header < 20 || header > segment.size()) return false;
  const std::uint8_t flags = segment[13];
  const bool syn = (flags & kBitSyn) != 0;
  const bool bare = header == segment.size();
  const ReferenceFlow flow{ip.source, ip.destination, Read16(segment, 0), Read16(segment, 2)};
  if (!*socket_) {  // the kernel's own: it may answer what came in
    if (!bare || !IsRecorded(flow, IPPROTO_TCP)) return false;
    return !syn || ((flags & kBitAck) != 0 && Read32(segment, 8) == (*record_)->syn_sequence + 1);
  }
  const ReferenceSocket& socket = **socket_;
  if (socket.flow != flow) return false;
  const bool judged = socket.kind == ReferenceSocket::kAllowed || socket.kind == ReferenceSocket::kUndecidedTls;
  if (judged && socket.rules_changed && !StillAllowed(socket)) return false;
  switch (socket.kind) {
    case ReferenceSocket::kAllowed:
    case ReferenceSocket::kCameIn: return true;
    case ReferenceSocket::kUndecidedTls:
      if (bare) return true;
      if (!syn) return false;  // of a connection whose beginning nobody saw
      return std::nullopt;
    default: return bare && !syn && socket.handshake_left;  // the end of what was cut
  }
}

bool ReferenceBoundary::StillAllowed(const ReferenceSocket& socket) const {
  bool any_bytes = true, by_name = true;
  for (const Address& form : Forms(socket.flow.remote)) {
    const bool ruled = socket.flow.remote_port == kReferencePort;
    const bool free = Covers(rules_.mesh, form) || Covers(rules_.excluded, form) ||
                      (socket.flow.remote_port == 53 && Contains(rules_.dns_servers, form)) ||
                      (ruled && Covers(rules_.tcp, form));
    any_bytes = any_bytes && free;
    by_name = by_name && (free || (ruled && Covers(rules_.https, form)));
  }
  if (IsOwn(socket.flow.remote) || IsLoopback(socket.flow.remote)) return true;
  return any_bytes || (socket.kind == ReferenceSocket::kUndecidedTls && by_name);
}

bool ReferenceBoundary::IsRecorded(const ReferenceFlow& flow, std::uint8_t protocol) const {
  return *record_ && (*record_)->protocol == protocol && (*record_)->flow == flow;
}

// Not TCP, and outside the mesh: to a name server, in answer to what came in, or open to all.
bool ReferenceBoundary::OtherMayLeave(const Ip& ip, const Layer4& rest) const {
  if (rules_.other_protocols) return true;
  if (rest.protocol == IPPROTO_UDP) {
    const ReferenceFlow flow{ip.source, ip.destination, Read16(rest.bytes, 0), Read16(rest.bytes, 2)};
    const auto forms = Forms(ip.destination);
    const bool to_dns =
        flow.remote_port == 53 && std::all_of(forms.begin(), forms.end(), [&](const Address& form) {
          return Contains(rules_.dns_servers, form) || Covers(rules_.mesh, form) || Covers(rules_.excluded, form);
        });
    if (to_dns) return true;
    return IsRecorded(flow, IPPROTO_UDP) && (*record_)->within_30_seconds && !(*record_)->pod_spoke_first;
  }
  const std::uint8_t icmp = ip.v4 ? std::uint8_t{IPPROTO_ICMP} : std::uint8_t{IPPROTO_ICMPV6};
  if (rest.protocol != icmp) return false;
  if (rest.bytes[0] == (ip.v4 ? 0 : 129)) {
    const std::uint16_t identifier = Read16(rest.bytes, 4);
    return IsRecorded({ip.source, ip.destination, identifier, identifier}, icmp) && (*record_)->within_30_seconds &&
           !(*record_)->pod_spoke_first;
  }
  return IsOwedError(ip, rest);
}

// Destination unreachable, time exceeded, parameter problem, packet too big: about something that came in, to where it
// came from.
bool ReferenceBoundary::IsOwedError(const Ip& ip, const Layer4& rest) const {
  const std::vector<std::uint8_t> types =
      ip.v4 ? std::vector<std::uint8_t>{3, 11, 12} : std::vector<std::uint8_t>{1, 2, 3, 4};
  if (std::find(types.begin(), types.end(), rest.bytes[0]) == types.end()) return false;
  const View quoted = rest.bytes.subspan(8);
  const std::size_t header = ip.v4 ? 20 : 40;
  if (quoted.size() < header + 4 || quoted[0] >> 4 != (ip.v4 ? 4 : 6)) return false;
  if (ip.v4 && (quoted[0] & 15) != 5) return false;
  const Address from = ip.v4 ? Read4(quoted, 12) : Read6(quoted, 8);
  const Address to = ip.v4 ? Read4(quoted, 16) : Read6(quoted, 24);
  if (from != ip.destination || to != ip.source) return false;
  const std::uint8_t protocol = quoted[ip.v4 ? 9 : 6];
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) return false;
  if (!IsRecorded({to, from, Read16(quoted, header + 2), Read16(quoted, header)}, protocol)) return false;
  return protocol == IPPROTO_TCP || (*record_)->within_30_seconds;
}

// RFC 4861 and RFC 3810, on the link: what IPv6 cannot do without, for the pod's own addresses.
bool ReferenceBoundary::IsDiscovery(const Ip& ip, const Layer4& rest) const {
  if (ip.v4 || rest.protocol != IPPROTO_ICMPV6 || rest.bytes.size() < 8) return false;
  static const Address kNone = *ParseAddress("::");
  if (!IsOwn(ip.source) && ip.source != kNone) return false;
  const bool neighbour = std::any_of(rules_.own.begin(), rules_.own.end(), [&](const Address& own) {
    return !own.IsV4() && std::equal(own.bytes.begin(), own.bytes.begin() + 8, ip.destination.bytes.begin());
  });
  const bool link = IsLinkScope(ip.destination);
  switch (rest.bytes[0]) {
    case 131:
    case 132:
    case 143: return link && ip.hop_limit == 1;
    case 133: return link && ip.hop_limit == 255;
    case 135: return (link || neighbour) && ip.hop_limit == 255;
    case 136:
      return (link || neighbour) && ip.hop_limit == 255 && rest.bytes.size() >= 24 && IsOwn(Read6(rest.bytes, 8));
    default: return false;
  }
}

}  // namespace egress::test
