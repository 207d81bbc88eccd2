/* frame -> struct packet: parses what leaves or enters a pod, up to the layer 4 header, or says why it cannot. */
#ifndef EGRESS_PACKET_H
#define EGRESS_PACKET_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#include "flow.h"

#define ETH_P_8021Q_FRAME 0x8100
#define EXTENSION_HEADERS 8      /* of IPv6, at most */
#define ICMP_OF_OTHER_FAMILY 255 /* no type: ICMPv6 in IPv4, or the reverse, says nothing to anybody */

enum tcp_flag { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16, TCP_URG = 32 };

enum packet_kind {
	PACKET_IP = 0,
	PACKET_ARP,
	PACKET_OTHER, /* no IP */
};

struct packet {
	struct flow flow;
	__u8 mac[6];    /* Ethernet source */
	__u8 kind;      /* enum packet_kind */
	__u8 bad;       /* enum egress_reason: why it cannot be judged beyond its addresses; 0: parsed whole */
	__u32 l4;       /* offset of the layer 4 header */
	__u32 end;      /* offset behind the last byte of the IP packet */
	__u32 payload;  /* TCP: offset of the first byte behind the header */
	__u32 sequence; /* TCP, host order */
	__u32 acknowledged;
	__u8 flags; /* TCP */
	__u8 icmp_type;
	__u8 hop_limit;
	__u8 extended; /* IPv6 extension headers are there */
};

static __always_inline int same_mac(const __u8 a[6], const __u8 b[6])
{
	const __u16 *x = (const __u16 *)a, *y = (const __u16 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

/* ICMP and ICMPv6 echo; other types have no identifier. */
static __always_inline int is_echo_request(const struct packet *packet)
{
	return (packet->flow.protocol == IPPROTO_ICMP && packet->icmp_type == 8) ||
	       (packet->flow.protocol == IPPROTO_ICMP6 && packet->icmp_type == 128);
}

static __always_inline int is_echo_reply(const struct packet *packet)
{
	return (packet->flow.protocol == IPPROTO_ICMP && packet->icmp_type == 0) ||
	       (packet->flow.protocol == IPPROTO_ICMP6 && packet->icmp_type == 129);
}

static __always_inline void parse_tcp(struct __sk_buff *skb, struct packet *packet)
{
	struct tcphdr tcp;
	__u32 header;

	if (bpf_skb_load_bytes(skb, packet->l4, &tcp, sizeof(tcp))) {
		packet->bad = EGRESS_REASON_MALFORMED_PACKET;
		return;
	}
	packet->flow.source_port = tcp.source;
	packet->flow.port = tcp.dest;
	packet->sequence = bpf_ntohl(tcp.seq);
	packet->acknowledged = bpf_ntohl(tcp.ack_seq);
	packet->flags = ((__u8 *)&tcp)[13];
	header = tcp.doff * 4;
	packet->payload = packet->l4 + header;
	if (header < sizeof(tcp) || packet->payload > packet->end)
		packet->bad = EGRESS_REASON_MALFORMED_PACKET;
}

static __always_inline void parse_l4(struct __sk_buff *skb, struct packet *packet)
{
	__u8 head[8];

	if (packet->flow.protocol == IPPROTO_TCP) {
		parse_tcp(skb, packet);
		return;
	}
	if (packet->flow.protocol != IPPROTO_UDP && packet->flow.protocol != IPPROTO_UDPLITE &&
	    packet->flow.protocol != IPPROTO_ICMP && packet->flow.protocol != IPPROTO_ICMP6)
		return;
	if (packet->l4 + sizeof(head) > packet->end || bpf_skb_load_bytes(skb, packet->l4, head, sizeof(head))) {
		packet->bad = EGRESS_REASON_MALFORMED_PACKET;
		return;
	}
	if (packet->flow.protocol == IPPROTO_UDP || packet->flow.protocol == IPPROTO_UDPLITE) {
		packet->flow.source_port = *(__be16 *)head;
		packet->flow.port = *(__be16 *)(head + 2);
		return;
	}
	if (packet->flow.protocol != (is_ip4(packet->flow.source) ? IPPROTO_ICMP : IPPROTO_ICMP6)) {
		packet->icmp_type = ICMP_OF_OTHER_FAMILY;
		return;
	}
	packet->icmp_type = head[0];
	if (is_echo_request(packet) || is_echo_reply(packet)) {
		packet->flow.source_port = *(__be16 *)(head + 4);
		packet->flow.port = packet->flow.source_port;
	}
}

static __always_inline void parse_ip4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip;
	__u32 total;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 4) {
		packet->kind = PACKET_OTHER;
		return;
	}
	map_ip4(packet->flow.source, ip.saddr);
	map_ip4(packet->flow.destination, ip.daddr);
	packet->flow.protocol = ip.protocol;
	packet->hop_limit = ip.ttl;
	packet->l4 = ETH_HLEN + sizeof(ip);
	total = bpf_ntohs(ip.tot_len);
	packet->end = skb->len;
	if (!skb->gso_segs && ETH_HLEN + total <= skb->len)
		packet->end = ETH_HLEN + total;
	else if (!skb->gso_segs)
		packet->bad = EGRESS_REASON_MALFORMED_PACKET;
	if (ip.frag_off & bpf_htons(0x3fff))
		packet->bad = EGRESS_REASON_FRAGMENT;
	else if (ip.ihl != 5 || !ip.ttl || packet->end < packet->l4 || (ip.frag_off & bpf_htons(0x8000)))
		packet->bad = EGRESS_REASON_MALFORMED_PACKET;
	if (!packet->bad)
		parse_l4(skb, packet);
}

/* Walks the extension headers (RFC 8200, 4). Whole (atomic) fragments count as not fragmented (RFC 6946). */
static __always_inline void skip_extensions(struct __sk_buff *skb, struct packet *packet, __u8 next)
{
	for (int i = 0; i < EXTENSION_HEADERS; i++) {
		__u8 head[4];

		if (next != 0 && next != 60 && next != 44)
			break;
		if (bpf_skb_load_bytes(skb, packet->l4, head, sizeof(head))) {
			packet->bad = EGRESS_REASON_MALFORMED_PACKET;
			return;
		}
		packet->extended = 1;
		if (next == 0 && i > 0) {
			packet->bad = EGRESS_REASON_MALFORMED_PACKET; /* hop-by-hop options come first or not at all */
			return;
		}
		if (next == 44 && (*(__be16 *)(head + 2) & bpf_htons(0xfff9))) {
			packet->bad = EGRESS_REASON_FRAGMENT;
			return;
		}
		packet->l4 += next == 44 ? 8 : (head[1] + 1) * 8;
		next = head[0];
	}
	packet->flow.protocol = next;
	if (packet->l4 > packet->end || next == 0 || next == 44 || next == 60 || next == 43 || next == 51 ||
	    next == 135 || next == 139 || next == 140)
		packet->bad = EGRESS_REASON_MALFORMED_PACKET;
}

static __always_inline void parse_ip6(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6hdr ip;
	__u32 total;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 6) {
		packet->kind = PACKET_OTHER;
		return;
	}
	copy_address(packet->flow.source, (__u8 *)&ip.saddr);
	copy_address(packet->flow.destination, (__u8 *)&ip.daddr);
	if (is_ip4(packet->flow.source) || is_ip4(packet->flow.destination)) {
		packet->kind = PACKET_OTHER; /* mapped addresses have no business on a wire, and would pass for IPv4 */
		return;
	}
	packet->hop_limit = ip.hop_limit;
	packet->l4 = ETH_HLEN + sizeof(ip);
	total = sizeof(ip) + bpf_ntohs(ip.payload_len);
	packet->end = skb->len;
	if (!skb->gso_segs && ETH_HLEN + total <= skb->len)
		packet->end = ETH_HLEN + total;
	else if (!skb->gso_segs)
		packet->bad = EGRESS_REASON_MALFORMED_PACKET;
	if (!ip.hop_limit)
		packet->bad = EGRESS_REASON_MALFORMED_PACKET;
	if (!packet->bad)
		skip_extensions(skb, packet, ip.nexthdr);
	if (!packet->bad)
		parse_l4(skb, packet);
}

/* Fills `packet` from a frame at TC. Returns 0. */
__noinline int parse_packet(struct __sk_buff *skb, struct packet *packet)
{
	struct ethhdr ethernet;

	if (!packet)
		return 0;
	__builtin_memset(packet, 0, sizeof(*packet));
	packet->kind = PACKET_OTHER;
	if (bpf_skb_load_bytes(skb, 0, &ethernet, sizeof(ethernet)))
		return 0;
	__builtin_memcpy(packet->mac, ethernet.h_source, sizeof(packet->mac));
	if (skb->vlan_present)
		return 0;
	packet->kind = PACKET_IP;
	switch (ethernet.h_proto) {
	case bpf_htons(ETH_P_IP): parse_ip4(skb, packet); break;
	case bpf_htons(ETH_P_IPV6): parse_ip6(skb, packet); break;
	case bpf_htons(ETH_P_ARP): packet->kind = PACKET_ARP; break;
	default: packet->kind = PACKET_OTHER;
	}
	return 0;
}

#endif
