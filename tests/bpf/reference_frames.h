// ReferenceFrames: frames that a pod might send, well-formed ones of every kind, the same mutated, and noise; each with
// what was decided about its socket and what came in before.
#pragma once

#include <optional>
#include <random>
#include <vector>

#include "tests/bpf/reference_boundary.h"

namespace egress::test {

struct ReferenceCase {
  Bytes frame;
  std::optional<ReferenceSocket> socket;
  std::optional<ReferenceRecord> record;
};

class ReferenceFrames {
 public:
  ReferenceFrames(std::uint64_t seed, const ReferenceRules& rules) : random_(seed), rules_(rules) {}

  ReferenceCase Next();

 private:
  std::size_t Below(std::size_t bound) { return random_() % bound; }
  bool Chance(int percent) { return Below(100) < static_cast<std::size_t>(percent); }
  template <typename T>
  const T& Any(const std::vector<T>& list) {
    return list[Below(list.size())];
  }

  Address AnyDestination(bool v4);
  const Address& Own(bool v4);
  Packet AnyPacket();
  Packet Datagram(bool v4);
  Packet Segment(bool v4);
  Packet Echo(bool v4);
  Packet OwedError(bool v4);
  Packet Discovery();
  Arp AnyArp();
  void Dress(Packet* packet);
  void Remember(const Packet& packet);
  void Mutate(Bytes* frame);

  std::mt19937_64 random_;
  const ReferenceRules& rules_;
  ReferenceCase made_;
};

}  // namespace egress::test
