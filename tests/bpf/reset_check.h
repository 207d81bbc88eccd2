// What a RST of the boundary looks like.
#pragma once

#include <gtest/gtest.h>

#include "tests/support/packet.h"

namespace egress::test {

// The RST to the pod that a refused segment brings (RFC 9293, 3.10.7.1), as if the peer had sent it.
inline Packet ResetToPod(const Packet& refused) {
  Packet reset;
  reset.to = refused.from;
  reset.from = refused.to;
  reset.source = refused.destination;
  reset.destination = refused.source;
  reset.protocol = refused.protocol;
  reset.source_port = refused.port;
  reset.port = refused.source_port;
  reset.fragment = 0x4000;
  reset.flags = kRst | kAck;
  reset.sequence = (refused.flags & kAck) != 0 ? refused.acknowledged : 0;
  reset.acknowledged = refused.sequence + static_cast<std::uint32_t>(refused.payload.size()) +
                       ((refused.flags & kSyn) != 0 ? 1 : 0) + ((refused.flags & kFin) != 0 ? 1 : 0);
  return reset;
}

// The RST to the peer, in place of the refused segment.
inline Packet ResetToPeer(const Packet& refused) {
  Packet reset = ResetToPod(refused);
  std::swap(reset.to, reset.from);
  std::swap(reset.source, reset.destination);
  std::swap(reset.source_port, reset.port);
  reset.sequence = refused.sequence;
  reset.acknowledged = refused.acknowledged;
  return reset;
}

// The frame is `wanted`, byte by byte, apart from window and checksum. The window is free, and such that the checksum
// field holds both the checksum and the sum of the pseudo-header: the frame may be marked CHECKSUM_PARTIAL or not, and
// either way the receiver gets a valid segment.
inline void ExpectReset(const Bytes& frame, const Packet& wanted) {
  const std::size_t tcp = kEthernetBytes + (wanted.destination.IsV4() ? 20 : 40);
  Bytes expected = Frame(wanted);
  ASSERT_EQ(frame.size(), expected.size());
  ASSERT_EQ(frame.size(), tcp + 20);
  for (const std::size_t at : {14, 15, 16, 17}) expected[tcp + at] = frame[tcp + at];
  EXPECT_EQ(frame, expected);
  const std::uint16_t pseudo = PseudoHeaderSum(wanted.source, wanted.destination, wanted.protocol, 20);
  EXPECT_EQ(InternetSum(std::span(frame).subspan(tcp), pseudo), 0xffff) << "the checksum";
  EXPECT_EQ(frame[tcp + 16] << 8 | frame[tcp + 17], pseudo) << "the sum of the pseudo-header";
}

}  // namespace egress::test
