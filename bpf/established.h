/* Most frames are segments of connections whose verdict stands: they are answered from the headers in place, without
 * taking the whole frame apart. What this says no to is judged as any other frame; it never says yes where
 * that would not. */
#ifndef EGRESS_ESTABLISHED_H
#define EGRESS_ESTABLISHED_H

#include "packet.h"
#include "socket.h"

/* Does the IP packet end where the frame says, with room for its TCP header? As parse_ip4(), parse_ip6(), parse_tcp(). */
static __always_inline int is_whole(struct __sk_buff *skb, __u32 ip_header, __u32 total, const struct tcphdr *tcp)
{
	__u32 length = skb->len - ETH_HLEN, tcp_header = tcp->doff * 4;

	if (!skb->gso_segs) { /* otherwise the IP header's length is that of one segment, or 0 */
		if (total > length)
			return 0;
		length = total;
	}
	return tcp_header >= sizeof(*tcp) && ip_header + tcp_header <= length;
}

/* The verdict of the socket that sent this frame, if it is that its segments pass, under the rules of now. */
static __always_inline struct socket_verdict *standing_verdict(struct __sk_buff *skb, const struct ethhdr *ethernet)
{
	struct bpf_sock *sk = skb->sk;
	struct socket_verdict *verdict;
	struct pod_state *state;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return NULL;
	verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!verdict)
		return NULL;
	if (verdict->kind != EGRESS_SOCKET_ALLOWED && verdict->kind != EGRESS_SOCKET_INBOUND)
		return NULL;
	state = bpf_map_lookup_elem(&states, &verdict->slot);
	if (!state || state->generation != verdict->generation || state->ifindex != skb->ifindex ||
	    !same_mac(state->mac, ethernet->h_source))
		return NULL;
	return verdict;
}

static __always_inline int is_established4(struct __sk_buff *skb, const struct ethhdr *ethernet, const void *end)
{
	const struct iphdr *ip = (const void *)(ethernet + 1);
	const struct tcphdr *tcp = (const void *)(ip + 1);
	const struct socket_verdict *verdict;
	const __u32 *source, *destination;

	if ((const void *)(tcp + 1) > end || *(const __u8 *)ip != 0x45 || ip->protocol != IPPROTO_TCP || !ip->ttl ||
	    ip->frag_off & bpf_htons(0xbfff) || !is_whole(skb, sizeof(*ip), bpf_ntohs(ip->tot_len), tcp))
		return 0;
	verdict = standing_verdict(skb, ethernet);
	if (!verdict || verdict->port != tcp->dest || verdict->source_port != tcp->source)
		return 0;
	source = (const __u32 *)verdict->source;
	destination = (const __u32 *)verdict->destination;
	return destination[3] == ip->daddr && source[3] == ip->saddr && is_ip4(verdict->destination) &&
	       is_ip4(verdict->source);
}

static __always_inline int is_established6(struct __sk_buff *skb, const struct ethhdr *ethernet, const void *end)
{
	const struct ipv6hdr *ip = (const void *)(ethernet + 1);
	const struct tcphdr *tcp = (const void *)(ip + 1);
	const struct socket_verdict *verdict;

	if ((const void *)(tcp + 1) > end || *(const __u8 *)ip >> 4 != 6 || ip->nexthdr != IPPROTO_TCP ||
	    !ip->hop_limit || !is_whole(skb, sizeof(*ip), sizeof(*ip) + bpf_ntohs(ip->payload_len), tcp))
		return 0;
	verdict = standing_verdict(skb, ethernet);
	return verdict && verdict->port == tcp->dest && verdict->source_port == tcp->source &&
	       same_address(verdict->destination, (const __u8 *)&ip->daddr) &&
	       same_address(verdict->source, (const __u8 *)&ip->saddr);
}

static __always_inline int is_established(struct __sk_buff *skb)
{
	const void *end = (const void *)(long)skb->data_end;
	const struct ethhdr *ethernet = (const void *)(long)skb->data;

	if ((const void *)(ethernet + 1) > end || skb->vlan_present)
		return 0;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		return is_established4(skb, ethernet, end);
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		return is_established6(skb, ethernet, end);
	return 0;
}

enum later_segment { NOT_LATER = 0, LATER_SEGMENT, LATER_SYN };

/* A TCP segment towards the pod that does not open a connection: nothing has to be remembered of it. */
static __always_inline enum later_segment is_later_segment(struct __sk_buff *skb)
{
	const void *end = (const void *)(long)skb->data_end;
	const struct ethhdr *ethernet = (const void *)(long)skb->data;
	const __u8 *ip = (const void *)(ethernet + 1);
	const struct tcphdr *tcp;
	__u8 flags;

	if (ip + sizeof(struct iphdr) > (const __u8 *)end || skb->vlan_present)
		return NOT_LATER;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP) && *ip == 0x45 && ip[9] == IPPROTO_TCP)
		tcp = (const void *)(ip + sizeof(struct iphdr));
	else if (ethernet->h_proto == bpf_htons(ETH_P_IPV6) && *ip >> 4 == 6 && ip[6] == IPPROTO_TCP)
		tcp = (const void *)(ip + sizeof(struct ipv6hdr));
	else
		return NOT_LATER;
	if ((const void *)(tcp + 1) > end)
		return NOT_LATER;
	flags = ((const __u8 *)tcp)[13];
	if ((flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN)
		return NOT_LATER;
	return flags & TCP_SYN ? LATER_SYN : LATER_SEGMENT;
}

#endif
