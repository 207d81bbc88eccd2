// ReferenceBoundary: may a frame leave a pod? Written from SEMANTICS over plain bytes; it shares nothing with the BPF
// programs that it is compared with but the names of addresses and prefixes.
//
// It knows no sockets: of the one that sent the frame it is told what was decided at its connect(), and of what came in
// to the pod it is told one record.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "agent/base/address.h"
#include "tests/support/packet.h"

namespace egress::test {

// Loopback, and what a kernel takes for it.
bool IsLoopback(const Address& address);

// What holds for the pod.
struct ReferenceRules {
  Mac mac{};
  std::vector<Address> own;
  std::vector<Prefix> mesh;
  std::vector<Prefix> excluded;
  std::vector<Address> dns_servers;
  std::vector<Prefix> tcp, https;  // what rules on kReferencePort allow
  bool other_protocols = false;
  bool open = false;
  bool audit = false;
};
inline constexpr std::uint16_t kReferencePort = 443;

// Addresses and ports as the pod sees them.
struct ReferenceFlow {
  Address local, remote;
  std::uint16_t local_port = 0, remote_port = 0;
  bool operator==(const ReferenceFlow&) const = default;
};

// What was decided about the socket that sent the frame.
struct ReferenceSocket {
  enum Kind { kDenied, kAllowed, kUndecidedTls, kToProxy, kCameIn };
  Kind kind = kDenied;
  ReferenceFlow flow;
  bool handshake_left = false;  // its peer knows of it
  bool rules_changed = false;   // since then
};

// What came in to the pod, or, where the pod spoke first, an exchange that it began.
struct ReferenceRecord {
  ReferenceFlow flow;  // ICMP: the identifier in both ports
  std::uint8_t protocol = 0;
  bool within_30_seconds = true;
  bool pod_spoke_first = false;
  std::uint32_t syn_sequence = 0;
};

class ReferenceBoundary {
 public:
  explicit ReferenceBoundary(ReferenceRules rules) : rules_(std::move(rules)) {}

  // nullopt: it carries the beginning of a ClientHello, which is another test's matter.
  std::optional<bool> MayLeave(std::span<const std::uint8_t> frame, const std::optional<ReferenceSocket>& socket,
                               const std::optional<ReferenceRecord>& record) const;

 private:
  // The part of a packet behind the IP header and the extension headers, as far as the IP length reaches.
  struct Layer4 {
    std::uint8_t protocol = 0;
    std::span<const std::uint8_t> bytes;
  };
  struct Ip {
    bool v4 = false;
    std::uint8_t hop_limit = 0;
    Address source, destination;
  };

  bool IsOwn(const Address& address) const;
  bool ArpMayLeave(std::span<const std::uint8_t> packet) const;
  std::optional<bool> Ip4MayLeave(std::span<const std::uint8_t> packet) const;
  std::optional<bool> Ip6MayLeave(std::span<const std::uint8_t> packet) const;
  std::optional<bool> RestMayLeave(const Ip& ip, const std::optional<Layer4>& rest) const;
  std::optional<bool> TcpMayLeave(const Ip& ip, std::span<const std::uint8_t> segment) const;
  bool OtherMayLeave(const Ip& ip, const Layer4& rest) const;
  bool IsDiscovery(const Ip& ip, const Layer4& rest) const;
  bool IsOwedError(const Ip& ip, const Layer4& rest) const;
  bool IsRecorded(const ReferenceFlow& flow, std::uint8_t protocol) const;
  bool NeedsNoRule(const Address& destination) const;
  bool StillAllowed(const ReferenceSocket& socket) const;

  ReferenceRules rules_;
  // Of the frame at hand.
  mutable const std::optional<ReferenceSocket>* socket_ = nullptr;
  mutable const std::optional<ReferenceRecord>* record_ = nullptr;
};

}  // namespace egress::test
