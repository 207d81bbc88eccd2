/* RST segments made out of the frame that is refused (RFC 9293, 3.10.7), at the host side of the veth. */
#ifndef EGRESS_RESET_H
#define EGRESS_RESET_H

#include "packet.h"

struct reset {
	__u8 source[16];
	__u8 destination[16];
	__be16 source_port;
	__be16 port;
	__u32 sequence; /* host order */
	__u32 acknowledged;
	__u8 flags;
};

struct reset_packet4 {
	struct iphdr ip;
	struct tcphdr tcp;
};

struct reset_packet6 {
	struct ipv6hdr ip;
	struct tcphdr tcp;
};

static __always_inline __u16 fold_sum(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u64 sum_words(const void *data, int words)
{
	const __u16 *word = data;
	__u64 sum = 0;

	for (int i = 0; i < words; i++)
		sum += word[i];
	return sum;
}

/* The TCP header. The frame it is written into may be marked CHECKSUM_PARTIAL (then the field must hold the sum of
 * the pseudo-header, and the device adds the rest) or not (then it must be the checksum), and a program cannot see
 * which. Nobody reads the window of a RST, so it is chosen such that both are the same number. */
static __always_inline void fill_tcp(struct tcphdr *tcp, const struct reset *reset, __u64 pseudo)
{
	__u16 head = fold_sum(pseudo);

	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->source = reset->source_port;
	tcp->dest = reset->port;
	tcp->seq = bpf_htonl(reset->sequence);
	tcp->ack_seq = bpf_htonl(reset->acknowledged);
	tcp->doff = sizeof(*tcp) / 4;
	((__u8 *)tcp)[13] = reset->flags;
	tcp->window = ~fold_sum((__u64)head + head + sum_words(tcp, sizeof(*tcp) / 2));
	tcp->check = head;
}

/* The EtherType stays what it was. `mac`: destination and source. */
static __always_inline int replace_frame(struct __sk_buff *skb, const __u8 mac[12], const void *ip, __u32 length)
{
	return bpf_skb_change_tail(skb, ETH_HLEN + length, 0) || bpf_skb_store_bytes(skb, 0, mac, 12, 0) ||
	       bpf_skb_store_bytes(skb, ETH_HLEN, ip, length, 0);
}

static __always_inline int write_reset4(struct __sk_buff *skb, const struct reset *reset, const __u8 mac[12])
{
	struct reset_packet4 frame = {};
	const __u32 *source = (const __u32 *)(reset->source + 12);
	const __u32 *destination = (const __u32 *)(reset->destination + 12);

	frame.ip.version = 4;
	frame.ip.ihl = 5;
	frame.ip.tot_len = bpf_htons(sizeof(frame.ip) + sizeof(frame.tcp));
	frame.ip.frag_off = bpf_htons(0x4000);
	frame.ip.ttl = 64;
	frame.ip.protocol = IPPROTO_TCP;
	frame.ip.saddr = *source;
	frame.ip.daddr = *destination;
	frame.ip.check = ~fold_sum(sum_words(&frame.ip, sizeof(frame.ip) / 2));
	fill_tcp(&frame.tcp, reset,
	         sum_words(&frame.ip.saddr, 4) + bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(frame.tcp)));
	return replace_frame(skb, mac, &frame, sizeof(frame));
}

static __always_inline int write_reset6(struct __sk_buff *skb, const struct reset *reset, const __u8 mac[12])
{
	struct reset_packet6 frame = {};

	frame.ip.version = 6;
	frame.ip.payload_len = bpf_htons(sizeof(frame.tcp));
	frame.ip.nexthdr = IPPROTO_TCP;
	frame.ip.hop_limit = 64;
	copy_address((__u8 *)&frame.ip.saddr, reset->source);
	copy_address((__u8 *)&frame.ip.daddr, reset->destination);
	fill_tcp(&frame.tcp, reset,
	         sum_words(&frame.ip.saddr, 16) + bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(frame.tcp)));
	return replace_frame(skb, mac, &frame, sizeof(frame));
}

static __always_inline int write_reset(struct __sk_buff *skb, const struct reset *reset, const __u8 mac[12])
{
	return is_ip4(reset->source) ? write_reset4(skb, reset, mac) : write_reset6(skb, reset, mac);
}

/* Drops a TCP frame that leaves a pod and tells the pod, and the peer too if `both`. Returns a TC action. */
__noinline int reset_connection(struct __sk_buff *skb, const struct packet *packet, int both, int next)
{
	struct reset reset = {};
	__u8 out[12], back[12];

	if (!packet || packet->flags & TCP_RST || packet->bad || packet->extended)
		return TC_ACT_SHOT;
	if (bpf_skb_load_bytes(skb, 0, out, sizeof(out)))
		return TC_ACT_SHOT;
	__builtin_memcpy(back, out + 6, 6);
	__builtin_memcpy(back + 6, out, 6);
	copy_address(reset.source, packet->flow.destination);
	copy_address(reset.destination, packet->flow.source);
	reset.source_port = packet->flow.port;
	reset.port = packet->flow.source_port;
	reset.sequence = packet->flags & TCP_ACK ? packet->acknowledged : 0;
	reset.acknowledged = packet->sequence + packet->end - packet->payload + !!(packet->flags & TCP_SYN) +
	                     !!(packet->flags & TCP_FIN);
	reset.flags = TCP_RST | TCP_ACK;
	if (write_reset(skb, &reset, back))
		return TC_ACT_SHOT;
	if (!both)
		return bpf_redirect(skb->ifindex, 0);
	bpf_clone_redirect(skb, skb->ifindex, 0);
	copy_address(reset.source, packet->flow.source);
	copy_address(reset.destination, packet->flow.destination);
	reset.source_port = packet->flow.source_port;
	reset.port = packet->flow.port;
	reset.sequence = packet->sequence;
	reset.acknowledged = packet->acknowledged;
	return write_reset(skb, &reset, out) ? TC_ACT_SHOT : next;
}

#endif
