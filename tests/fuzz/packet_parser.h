/* What bpf/packet.h makes of a frame. Numbers are in host order, offsets in bytes from the frame's begin. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

struct parsed {
  unsigned char source[16];
  unsigned char destination[16];
  unsigned char mac[6];
  unsigned short source_port;
  unsigned short port;
  unsigned char protocol;
  unsigned char is_ip;
  unsigned char is_arp;
  unsigned char bad; /* enum egress_reason, 0: parsed whole */
  unsigned l4;
  unsigned end;
  unsigned payload;
  unsigned sequence;
  unsigned char flags;
};

void parse_memory(const unsigned char* bytes, unsigned length, int vlan_present, int gso_segs, struct parsed* out);

#ifdef __cplusplus
}
#endif
