/* struct flow: what a decision is about. Decisions take flows, never contexts, so that they can be tested. */
#ifndef EGRESS_FLOW_H
#define EGRESS_FLOW_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "egress.h"

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_ICMP6 58

struct flow {
	__u8 source[16];
	__u8 destination[16];
	__be16 source_port; /* ICMP: the identifier, in both ports */
	__be16 port;
	__u8 protocol; /* IPPROTO_* */
	__u8 pad[3];
};

static __always_inline void copy_address(__u8 to[16], const __u8 from[16])
{
	__builtin_memcpy(to, from, 16);
}

/* `address` becomes the IPv4-mapped form of `ip4` (network order). */
static __always_inline void map_ip4(__u8 address[16], __u32 ip4)
{
	__u32 *words = (__u32 *)address;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = ip4;
}

static __always_inline int is_ip4(const __u8 address[16])
{
	const __u32 *words = (const __u32 *)address;

	return words[0] == 0 && words[1] == 0 && words[2] == bpf_htonl(0xffff);
}

static __always_inline int same_address(const __u8 a[16], const __u8 b[16])
{
	const __u64 *x = (const __u64 *)a;
	const __u64 *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* Loopback, and the unspecified address, which the kernel takes for it. */
static __always_inline int is_loopback(const __u8 address[16])
{
	const __u32 *words = (const __u32 *)address;

	if (is_ip4(address))
		return address[12] == 127 || words[3] == 0;
	return words[0] == 0 && words[1] == 0 && words[2] == 0 && (words[3] == bpf_htonl(1) || words[3] == 0);
}

/* fe80::/10; the link-local addresses of IPv4 are like any other. */
static __always_inline int is_link_local(const __u8 address[16])
{
	return address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
}

/* An address and the IPv4 addresses that it stands for. */
#define EGRESS_MAX_FORMS 3

/* Is this one of the prefixes of embedded_ip4(), or close to one? All that other addresses pay. */
static __always_inline int may_embed_ip4(const __u8 address[16])
{
	__u32 head = *(const __u32 *)address;

	return head == bpf_htonl(0x0064ff9b) || head == bpf_htonl(0x20010000) ||
	       (head & bpf_htonl(0xffff0000)) == bpf_htonl(0x20020000);
}

/* The IPv4 addresses that packets to an IPv6 address reach, or pass, once it has been translated or unpacked. Returns
 * how many: NAT64 (RFC 6052, 2.1), 6to4 (RFC 3056, 2), and of Teredo (RFC 4380, 4) the server and the client, whose
 * bits are inverted. */
static __always_inline int embedded_ip4(const __u8 address[16], __u32 ip4[2])
{
	const __u32 *words = (const __u32 *)address;
	__u16 *halves = (__u16 *)ip4;

	if (words[0] == bpf_htonl(0x0064ff9b) && !words[1] && !words[2]) {
		ip4[0] = words[3];
		return 1;
	}
	if ((words[0] & bpf_htonl(0xffff0000)) == bpf_htonl(0x20020000)) {
		halves[0] = *(const __u16 *)(address + 2);
		halves[1] = *(const __u16 *)(address + 4);
		return 1;
	}
	if (words[0] == bpf_htonl(0x20010000)) {
		ip4[0] = words[1];
		ip4[1] = ~words[3];
		return 2;
	}
	return 0;
}

static __always_inline int is_own_address(const struct pod *pod, const __u8 address[16])
{
	for (int i = 0; i < EGRESS_MAX_POD_ADDRESSES; i++)
		if (i < pod->address_count && same_address(pod->addresses[i], address))
			return 1;
	return 0;
}

/* The protocol as policies, counters and events name it. */
static __always_inline __u8 protocol_label(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP: return EGRESS_TCP;
	case IPPROTO_UDP: return EGRESS_UDP;
	case IPPROTO_ICMP:
	case IPPROTO_ICMP6: return EGRESS_ICMP;
	default: return EGRESS_OTHER;
	}
}

#endif
