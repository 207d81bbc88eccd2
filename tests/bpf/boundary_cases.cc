#include "tests/bpf/boundary_cases.h"

#include <netinet/in.h>

#include <utility>

namespace egress::test {
namespace {

// A list under construction for one family.
class Cases {
 public:
  explicit Cases(const Place& place) : place_(place), ip4_(place.outside.IsV4()) {}

  Packet Out(std::uint8_t protocol) const { return GuardedPod::To(place_.outside, protocol); }
  Packet Tcp(std::uint8_t flags = kSyn) const {
    Packet packet = Out(IPPROTO_TCP);
    packet.flags = flags;
    packet.sequence = 1000;
    packet.acknowledged = 2000;
    return packet;
  }
  Packet Datagram() const {
    Packet packet = Out(IPPROTO_UDP);
    packet.payload = Text("question");
    return packet;
  }
  // A datagram to a name server: passes, and what is wrong with its form can be seen by itself.
  Packet Dns() const {
    Packet packet = Datagram();
    packet.destination = place_.dns;
    packet.port = 53;
    return packet;
  }
  Packet Echo() const {
    Packet packet = Out(static_cast<std::uint8_t>(ip4_ ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6}));
    packet.icmp_type = ip4_ ? 8 : 128;
    return packet;
  }

  DeniedFrame& Add(const std::string& name, Packet packet, egress_protocol label, egress_reason reason) {
    cases_.push_back({std::string(place_.family) + ", " + name, std::move(packet), label, reason, {}, false});
    return cases_.back();
  }
  // A frame to a name server made wrong by `spoil`; its twin is the frame without.
  template <typename Spoil>
  void AddSpoiled(const std::string& name, egress_protocol label, egress_reason reason, Packet packet, Spoil spoil) {
    const Packet twin = packet;
    spoil(&packet);
    Add(name, std::move(packet), label, reason).twin = twin;
  }

  void AddProtocols();
  void AddTcp();
  void AddSources();
  void AddDestinations();
  void AddLengths();
  void AddFragments4();
  void AddHeaders4();
  void AddExtensions6();
  void AddEtherTypes();
  void AddDiscovery6();
  void AddMapped6();

  bool ip4() const { return ip4_; }
  std::vector<DeniedFrame> Take() { return std::move(cases_); }

 private:
  const Place& place_;
  bool ip4_;
  std::vector<DeniedFrame> cases_;
};

void Cases::AddProtocols() {
  Add("UDP", Datagram(), EGRESS_UDP, EGRESS_REASON_PROTOCOL);
  AddSpoiled("UDP to a name server, another port", EGRESS_UDP, EGRESS_REASON_PROTOCOL, Dns(),
             [](Packet* packet) { packet->port = 54; });
  AddSpoiled("UDP to port 53 of no name server", EGRESS_UDP, EGRESS_REASON_PROTOCOL, Dns(),
             [](Packet* packet) { ++packet->destination.bytes[15]; });
  Add("echo request", Echo(), EGRESS_ICMP, EGRESS_REASON_PROTOCOL);
  Packet reply = Echo();
  reply.icmp_type = ip4_ ? 0 : 129;
  Add("echo reply to nothing", reply, EGRESS_ICMP, EGRESS_REASON_PROTOCOL);
  Packet lite = Datagram();
  lite.protocol = IPPROTO_UDPLITE;
  Add("UDP-Lite", lite, EGRESS_OTHER, EGRESS_REASON_PROTOCOL);
  for (const auto& [name, protocol] :
       std::initializer_list<std::pair<const char*, int>>{{"SCTP", IPPROTO_SCTP},
                                                          {"GRE", IPPROTO_GRE},
                                                          {"IPv4 inside", IPPROTO_IPIP},
                                                          {"IPv6 inside", IPPROTO_IPV6},
                                                          {"ESP", IPPROTO_ESP},
                                                          {"no next header", 59},
                                                          {"an unassigned protocol", 200}}) {
    Packet packet = Out(static_cast<std::uint8_t>(protocol));
    packet.payload = Bytes(40, 0x45);
    Add(name, packet, EGRESS_OTHER, EGRESS_REASON_PROTOCOL);
  }
}

void Cases::AddTcp() {
  for (const auto& [name, flags] : std::initializer_list<std::pair<const char*, int>>{
           {"SYN", kSyn}, {"SYN-ACK", kSyn | kAck}, {"data", kAck | kPsh}, {"FIN", kFin | kAck}, {"no flags", 0}}) {
    Packet packet = Tcp(static_cast<std::uint8_t>(flags));
    if ((flags & kPsh) != 0) packet.payload = Text("data");
    Add(std::string("TCP without a socket, ") + name, packet, EGRESS_TCP, EGRESS_REASON_NO_SOCKET).answered = true;
  }
  Packet fast_open = Tcp();
  fast_open.payload = Text("data");
  Add("SYN with data", fast_open, EGRESS_TCP, EGRESS_REASON_NO_SOCKET).answered = true;
  Add("RST without a socket", Tcp(kRst), EGRESS_TCP, EGRESS_REASON_NO_SOCKET);
  Packet dns = Tcp();
  dns.destination = place_.dns;
  dns.port = 53;
  Add("TCP to a name server without a socket", dns, EGRESS_TCP, EGRESS_REASON_NO_SOCKET).answered = true;
}

void Cases::AddSources() {
  const auto add = [&](const std::string& name, const char* source4, const char* source6) {
    AddSpoiled("source address " + name, EGRESS_UDP, EGRESS_REASON_SPOOFED_SOURCE, Dns(),
               [&](Packet* packet) { packet->source = *ParseAddress(ip4_ ? source4 : source6); });
  };
  add("of a neighbour", "192.0.2.8", "2001:db8::8");
  add("unspecified", "0.0.0.0", "::");
  add("loopback", "127.0.0.1", "::1");
  add("multicast", "224.0.0.1", "ff02::1");
  const auto spoil_mac = [](Packet* packet) { packet->from = kNodeMac; };
  AddSpoiled("source MAC of the node", EGRESS_OTHER, EGRESS_REASON_SPOOFED_SOURCE, Dns(), spoil_mac);
  Packet mesh = Datagram();
  mesh.destination = place_.mesh;
  AddSpoiled("source MAC, to the mesh", EGRESS_OTHER, EGRESS_REASON_SPOOFED_SOURCE, mesh, spoil_mac);
  AddSpoiled("source address, to the mesh", EGRESS_UDP, EGRESS_REASON_SPOOFED_SOURCE, mesh,
             [](Packet* packet) { ++packet->source.bytes[15]; });
}

void Cases::AddDestinations() {
  const auto add = [&](const std::string& name, const Address& destination, egress_reason reason) {
    AddSpoiled("to " + name, EGRESS_UDP, reason, Dns(), [&](Packet* packet) { packet->destination = destination; });
  };
  add("itself", GuardedPod::Own(place_.outside), EGRESS_REASON_POLICY);
  add("loopback", *ParseAddress(ip4_ ? "127.0.0.1" : "::1"), EGRESS_REASON_POLICY);
  add("the unspecified address", *ParseAddress(ip4_ ? "0.0.0.0" : "::"), EGRESS_REASON_POLICY);
  add("multicast", *ParseAddress(ip4_ ? "224.0.0.251" : "ff02::fb"), EGRESS_REASON_PROTOCOL);
  add("link-local", *ParseAddress(ip4_ ? "169.254.169.254" : "fe80::1"), EGRESS_REASON_PROTOCOL);
  if (ip4_) add("broadcast", *ParseAddress("255.255.255.255"), EGRESS_REASON_PROTOCOL);
}

void Cases::AddLengths() {
  const auto malformed = EGRESS_REASON_MALFORMED_PACKET;
  const egress_protocol unknown = ip4_ ? EGRESS_UDP : EGRESS_OTHER;  // of IPv6 the protocol is found later
  AddSpoiled("no hops left", unknown, malformed, Dns(), [](Packet* packet) { packet->hop_limit = 0; });
  AddSpoiled("a length beyond the frame", unknown, malformed, Dns(), [](Packet* packet) { packet->length = 1000; });
  AddSpoiled("a length that ends inside the UDP header", EGRESS_UDP, malformed, Dns(),
             [&](Packet* packet) { packet->length = static_cast<std::uint16_t>(ip4_ ? 27 : 7); });
  AddSpoiled("a UDP header cut short", EGRESS_UDP, malformed, Dns(), [](Packet* packet) { packet->l4_bytes = 7; });
  Packet echo = Echo();
  echo.l4_bytes = 4;
  Add("an ICMP header cut short", echo, EGRESS_ICMP, malformed);
  Packet tcp = Tcp();
  tcp.l4_bytes = 19;
  Add("a TCP header cut short", tcp, EGRESS_TCP, malformed);
  tcp = Tcp();
  tcp.tcp_words = 4;
  Add("a TCP header of 16 bytes", tcp, EGRESS_TCP, malformed);
  tcp.tcp_words = 15;
  Add("a TCP header beyond the packet", tcp, EGRESS_TCP, malformed);
}

void Cases::AddFragments4() {
  for (const auto& [name, field] : std::initializer_list<std::pair<const char*, int>>{
           {"first", 0x2000}, {"later", 0x2010}, {"last", 0x0010}, {"tiny offset", 0x0001}}) {
    AddSpoiled(std::string(name) + " fragment", EGRESS_UDP, EGRESS_REASON_FRAGMENT, Dns(),
               [f = static_cast<std::uint16_t>(field)](Packet* packet) { packet->fragment = f; });
    Packet tcp = Tcp();
    tcp.fragment = static_cast<std::uint16_t>(field);
    Add(std::string("TCP, ") + name + " fragment", tcp, EGRESS_TCP, EGRESS_REASON_FRAGMENT);
  }
}

void Cases::AddHeaders4() {
  const auto malformed = EGRESS_REASON_MALFORMED_PACKET;
  AddSpoiled("the reserved flag", EGRESS_UDP, malformed, Dns(), [](Packet* packet) { packet->fragment = 0x8000; });
  AddSpoiled("options", EGRESS_UDP, malformed, Dns(), [](Packet* packet) { packet->options = {1, 1, 1, 0}; });
  AddSpoiled("a source route", EGRESS_UDP, malformed, Dns(),
             [](Packet* packet) { packet->options = {131, 7, 4, 203, 0, 113, 9, 0}; });
  AddSpoiled("a header of 16 bytes", EGRESS_UDP, malformed, Dns(), [](Packet* packet) { packet->header_words = 4; });
  AddSpoiled("a header of 60 bytes in 28", EGRESS_UDP, malformed, Dns(),
             [](Packet* packet) { packet->header_words = 15; });
  AddSpoiled("a length less than the header", EGRESS_UDP, malformed, Dns(),
             [](Packet* packet) { packet->length = 19; });
  AddSpoiled("a length of nothing", EGRESS_UDP, malformed, Dns(), [](Packet* packet) { packet->length = 0; });
}

void Cases::AddExtensions6() {
  const auto malformed = EGRESS_REASON_MALFORMED_PACKET;
  const auto add = [&](const std::string& name, egress_protocol label, egress_reason reason,
                       std::vector<Extension> extensions) {
    AddSpoiled(name, label, reason, Dns(), [&](Packet* packet) { packet->extensions = std::move(extensions); });
  };
  add("a routing header", EGRESS_OTHER, malformed, {Routing()});
  add("a routing header behind options", EGRESS_OTHER, malformed, {HopByHop(), DestinationOptions(), Routing()});
  add("hop-by-hop options that do not come first", EGRESS_OTHER, malformed, {DestinationOptions(), HopByHop()});
  add("hop-by-hop options twice", EGRESS_OTHER, malformed, {HopByHop(), HopByHop()});
  add("nine extension headers", EGRESS_OTHER, malformed, std::vector<Extension>(9, DestinationOptions()));
  for (const auto& [name, type] : std::initializer_list<std::pair<const char*, int>>{
           {"an authentication header", 51}, {"a mobility header", 135}, {"HIP", 139}, {"SHIM6", 140}}) {
    add(name, EGRESS_OTHER, malformed, {{static_cast<std::uint8_t>(type), {0, 0, 0, 0, 0, 0, 0}}});
  }
  add("the first fragment", EGRESS_OTHER, EGRESS_REASON_FRAGMENT, {Fragment(0x0001)});
  add("a later fragment", EGRESS_OTHER, EGRESS_REASON_FRAGMENT, {Fragment(0x0080)});
  add("a fragment behind options", EGRESS_OTHER, EGRESS_REASON_FRAGMENT, {HopByHop(), Fragment(0x0081)});
  add("an extension header beyond the packet", EGRESS_UDP, malformed, {{IPPROTO_DSTOPTS, {200, 1, 4, 0, 0, 0, 0}}});
  AddSpoiled("a jumbogram", EGRESS_UDP, malformed, Dns(), [](Packet* packet) {
    packet->extensions = {{IPPROTO_HOPOPTS, {0, 0xc2, 4, 0, 1, 0, 0}}};
    packet->length = 0;
  });
  Packet udp = Datagram();
  udp.extensions = {HopByHop(), DestinationOptions(), Fragment(0)};
  Add("UDP behind extension headers", udp, EGRESS_UDP, EGRESS_REASON_PROTOCOL);
  Packet tcp = Tcp();
  tcp.extensions = {DestinationOptions()};
  Add("TCP behind extension headers", tcp, EGRESS_TCP, EGRESS_REASON_NO_SOCKET);
}

void Cases::AddEtherTypes() {
  const auto add = [&](const std::string& name, std::uint16_t type) {
    AddSpoiled("EtherType of " + name, EGRESS_OTHER, EGRESS_REASON_PROTOCOL, Dns(),
               [type](Packet* packet) { packet->ether_type = type; });
  };
  add("reverse ARP", 0x8035);
  add("MPLS", 0x8847);
  add("PPPoE", 0x8864);
  add("EAPOL", 0x888e);
  add("LLDP", 0x88cc);
  add("an experiment", 0x88b5);
  add("802.3, a length", 46);
  add("loopback test", 0x9000);
  for (const auto& [name, tags] : std::initializer_list<std::pair<const char*, std::vector<std::uint16_t>>>{
           {"a VLAN tag", {0x8100}}, {"a service tag", {0x88a8}}, {"two tags", {0x88a8, 0x8100}}}) {
    AddSpoiled(name, EGRESS_OTHER, EGRESS_REASON_PROTOCOL, Dns(), [&](Packet* packet) { packet->tags = tags; });
  }
  for (const std::uint8_t version : {0, 5, 15}) {
    AddSpoiled("IP version " + std::to_string(version), EGRESS_OTHER, EGRESS_REASON_PROTOCOL, Dns(),
               [version](Packet* packet) { packet->version = version; });
  }
  Packet padded = Dns();
  padded.padding = 20;
  AddSpoiled("EtherType of the other family", EGRESS_OTHER, EGRESS_REASON_PROTOCOL, padded,
             [&](Packet* packet) { packet->ether_type = static_cast<std::uint16_t>(ip4_ ? 0x86dd : 0x0800); });
}

// IPv4 addresses in IPv6 headers would be taken for IPv4 ones.
void Cases::AddMapped6() {
  const auto mapped = [](Address* address) { *address = *ParseAddress("10.1.2.3"); };
  AddSpoiled("a mapped destination", EGRESS_OTHER, EGRESS_REASON_PROTOCOL, Dns(), [&](Packet* packet) {
    packet->force_ip6 = true;
    mapped(&packet->destination);
  });
  AddSpoiled("a mapped source", EGRESS_OTHER, EGRESS_REASON_PROTOCOL, Dns(),
             [&](Packet* packet) { mapped(&packet->source); });
}

// Neighbour discovery passes on the link; behind another hop limit, in another scope or of another type it does not.
void Cases::AddDiscovery6() {
  const auto message = [&](std::uint8_t type, const char* to, std::uint8_t hop_limit) {
    Packet packet = Out(IPPROTO_ICMPV6);
    packet.icmp_type = type;
    packet.destination = *ParseAddress(to);
    packet.hop_limit = hop_limit;
    const Address target = GuardedPod::Own(place_.outside);
    packet.payload.assign(target.bytes.begin(), target.bytes.end());
    return packet;
  };
  const auto add = [&](const std::string& name, Packet good, auto spoil) {
    AddSpoiled(name, EGRESS_ICMP, EGRESS_REASON_PROTOCOL, std::move(good), spoil);
  };
  const auto forwarded = [](Packet* packet) { --packet->hop_limit; };
  const auto wide = [](Packet* packet) { packet->destination.bytes[1] = 0x05; };
  const auto outside = [&](Packet* packet) { packet->destination = place_.outside; };
  add("a solicitation that may have been forwarded", message(135, "ff02::1:ff00:1", 255), forwarded);
  add("an advertisement that may have been forwarded", message(136, "ff02::1", 255), forwarded);
  add("a solicitation to a wider scope", message(135, "ff02::1", 255), wide);
  add("a solicitation to outside", message(135, "ff02::1:ff00:1", 255), outside);
  add("an advertisement to outside", message(136, "fe80::1", 255), outside);
  add("an advertisement of another address", message(136, "ff02::1", 255),
      [](Packet* packet) { ++packet->payload[15]; });
  add("a router solicitation that may have been forwarded", message(133, "ff02::2", 255), forwarded);
  add("a router solicitation to a wider scope", message(133, "ff02::2", 255), wide);
  add("a router advertisement", message(133, "ff02::1", 255), [](Packet* packet) { packet->icmp_type = 134; });
  add("a redirect", message(135, "ff02::1", 255), [](Packet* packet) { packet->icmp_type = 137; });
  add("a multicast report to a wider scope", message(143, "ff02::16", 1), wide);
  add("a multicast report with hops", message(143, "ff02::16", 1), [](Packet* packet) { packet->hop_limit = 2; });
  add("a multicast report to outside", message(131, "ff02::16", 1), outside);
}

}  // namespace

std::vector<DeniedFrame> DeniedFrames(const Place& place) {
  Cases cases(place);
  cases.AddProtocols();
  cases.AddTcp();
  cases.AddSources();
  cases.AddDestinations();
  cases.AddLengths();
  if (cases.ip4()) {
    cases.AddFragments4();
    cases.AddHeaders4();
  } else {
    cases.AddExtensions6();
    cases.AddDiscovery6();
    cases.AddMapped6();
  }
  cases.AddEtherTypes();
  return cases.Take();
}

}  // namespace egress::test
