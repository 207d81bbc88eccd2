/* The last word: frames at the host side of a pod's veth. Default deny for all that leaves; records of what enters. */
#ifndef EGRESS_BOUNDARY_H
#define EGRESS_BOUNDARY_H

#include "tcp_frame.h"

/* Neighbour discovery and MLD (RFC 4861, RFC 3810): without them IPv6 does not work. Link scope, hop limit checked
 * by the receiver: 255, and 1 for MLD. */
static __always_inline int is_neighbour_discovery(const struct packet *packet)
{
	const __u8 *to = packet->flow.destination;
	int link_scope = (to[0] == 0xff && (to[1] & 15) == 2) || (to[0] == 0xfe && (to[1] & 0xc0) == 0x80);

	if (packet->flow.protocol != IPPROTO_ICMP6 || packet->bad)
		return 0;
	switch (packet->icmp_type) {
	case 131: /* MLD report, done, v2 report */
	case 132:
	case 143:
		return packet->hop_limit == 1 && link_scope;
	case 133: /* router solicitation */
		return packet->hop_limit == 255 && link_scope;
	case 135: /* neighbour solicitation, advertisement: also to a unicast address of the link */
	case 136:
		return packet->hop_limit == 255;
	}
	return 0;
}

static __always_inline int other_frame(struct __sk_buff *skb, struct boundary *b)
{
	struct packet *packet = &b->packet;
	__u8 allowed = judge_packet(&packet->flow, b->in.pod, b->in.state);

	if (allowed) {
		if (packet->flow.protocol == IPPROTO_UDP && !answers_inbound(&packet->flow, b->in.cookie))
			note_opened_here(&packet->flow, b->in.cookie);
		return PASS;
	}
	if ((packet->flow.protocol == IPPROTO_UDP || is_echo_reply(packet)) &&
	    answers_inbound(&packet->flow, b->in.cookie))
		return PASS;
	return refuse_frame(skb, b, protocol_label(packet->flow.protocol), EGRESS_REASON_PROTOCOL, 0, RESET_NONE, NULL);
}

/* A frame whose fast path did not hold. */
static __always_inline int judge_frame(struct __sk_buff *skb, struct boundary *b)
{
	struct packet *packet = &b->packet;
	__u8 label = protocol_label(packet->flow.protocol);
	__u32 flags;

	if (!same_mac(packet->mac, b->in.pod->mac))
		return refuse_frame(skb, b, EGRESS_OTHER, EGRESS_REASON_SPOOFED_SOURCE, 0, RESET_NONE, NULL);
	if (packet->kind == PACKET_ARP)
		return PASS;
	if (packet->kind == PACKET_OTHER)
		return refuse_frame(skb, b, EGRESS_OTHER, EGRESS_REASON_PROTOCOL, 0, RESET_NONE, NULL);
	if (is_neighbour_discovery(packet))
		return PASS;
	if (!is_own_address(b->in.pod, packet->flow.source))
		return refuse_frame(skb, b, label, EGRESS_REASON_SPOOFED_SOURCE, 0, RESET_NONE, NULL);
	if (is_loopback(packet->flow.destination) || is_own_address(b->in.pod, packet->flow.destination))
		return refuse_frame(skb, b, label, EGRESS_REASON_POLICY, 0, RESET_NONE, NULL);
	flags = network_flags(packet->flow.destination, b->in.state->generation);
	if (flags & EGRESS_NET_MESH || (flags & EGRESS_NET_EXCLUDED && !b->in.state->unguarded))
		return PASS;
	if (packet->bad)
		return refuse_frame(skb, b, label, packet->bad, 0, RESET_NONE, NULL);
	if (packet->flow.protocol == IPPROTO_TCP)
		return tcp_frame(skb, b);
	return other_frame(skb, b);
}

/* Most frames: a segment of a connection whose verdict is up to date, on the tuple that was judged. */
static __always_inline int is_established(struct __sk_buff *skb, const struct packet *packet)
{
	struct socket_verdict *verdict;
	struct bpf_sock *sk = skb->sk;
	struct pod_state *state;

	if (packet->flow.protocol != IPPROTO_TCP || packet->bad || !sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!verdict || (verdict->kind != EGRESS_SOCKET_ALLOWED && verdict->kind != EGRESS_SOCKET_INBOUND))
		return 0;
	state = bpf_map_lookup_elem(&states, &verdict->slot);
	return state && state->generation == verdict->generation && state->ifindex == skb->ifindex &&
	       same_mac(state->mac, packet->mac) && is_tuple(verdict, &packet->flow);
}

static __always_inline int leave_pod(struct __sk_buff *skb)
{
	struct boundary b;

	parse_packet(skb, &b.packet);
	if (is_established(skb, &b.packet))
		return PASS;
	if (!find_pod_of_interface(skb->ifindex, &b.in))
		return DROP; /* attached, but no pod is known here (yet) */
	if (b.in.state->open)
		return PASS;
	return judge_frame(skb, &b);
}

/* ---- Into the pod ---- */

static __always_inline int is_proxy_listener(const struct packet *packet, const struct pod *pod)
{
	__be16 port = is_ip4(packet->flow.destination) ? pod->proxy_port4 : pod->proxy_port6;

	return port && packet->flow.port == port && is_own_address(pod, packet->flow.destination);
}

static __always_inline int enter_pod(struct __sk_buff *skb)
{
	struct packet packet;
	struct governed in;

	parse_packet(skb, &packet);
	if (packet.kind != PACKET_IP || packet.bad)
		return PASS;
	if (packet.flow.protocol == IPPROTO_TCP) {
		if ((packet.flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
			return PASS;
	} else if (packet.flow.protocol != IPPROTO_UDP && !is_echo_request(&packet)) {
		return PASS;
	}
	if (!find_pod_of_interface(skb->ifindex, &in))
		return PASS;
	if (packet.flow.protocol == IPPROTO_TCP && is_proxy_listener(&packet, in.pod))
		return DROP; /* nobody but the pod itself may use its proxy */
	if (!is_own_address(in.pod, packet.flow.source))
		record_inbound(&packet, in.cookie);
	return PASS;
}

#endif
