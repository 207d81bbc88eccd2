/* The last word: frames at the host side of a pod's veth. Default deny for all that leaves; records of what enters. */
#ifndef EGRESS_BOUNDARY_H
#define EGRESS_BOUNDARY_H

#include "established.h"
#include "neighbour.h"
#include "tcp_frame.h"

/* Is this the tuple of a connection of the pod that may say what it likes? Not one whose name is still to come: what
 * follows the quoted header in an error is up to the sender. */
static __always_inline int is_allowed_connection(struct __sk_buff *skb, const struct flow *flow, __s32 netns_id)
{
	struct bpf_sock *found = find_owner(skb, flow, netns_id);
	struct socket_verdict *verdict;
	struct hello *hello;
	int allowed = 0;

	if (!found)
		return 0;
	verdict = bpf_sk_storage_get(&sockets, found, NULL, 0);
	if (verdict && is_tuple(verdict, flow)) {
		hello = bpf_sk_storage_get(&hellos, found, NULL, 0);
		allowed = verdict->kind == EGRESS_SOCKET_ALLOWED || verdict->kind == EGRESS_SOCKET_INBOUND ||
		          (verdict->kind == EGRESS_SOCKET_TLS && hello && hello->step == HELLO_DONE);
	}
	bpf_sk_release(found);
	return allowed;
}

/* Errors that the pod's kernel owes to the sender of a packet that came in (RFC 1122, 3.2.2; RFC 4443, 2.4): they
 * quote it, and go to its sender. */
static __always_inline int is_owed_error(struct __sk_buff *skb, const struct boundary *b)
{
	const struct packet *packet = &b->packet;
	struct flow quoted = {};
	__u32 at = packet->l4 + 8;
	__be16 port_pair[2];
	__u8 head[40];

	if (packet->flow.protocol == IPPROTO_ICMP) {
		if (packet->icmp_type != 3 && packet->icmp_type != 11 && packet->icmp_type != 12)
			return 0;
		if (bpf_skb_load_bytes(skb, at, head, 20) || head[0] != 0x45)
			return 0;
		map_ip4(quoted.destination, *(__u32 *)(head + 12));
		map_ip4(quoted.source, *(__u32 *)(head + 16));
		quoted.protocol = head[9];
		at += 20;
	} else if (packet->flow.protocol == IPPROTO_ICMP6) {
		if (packet->icmp_type < 1 || packet->icmp_type > 4)
			return 0;
		if (bpf_skb_load_bytes(skb, at, head, 40) || head[0] >> 4 != 6)
			return 0;
		copy_address(quoted.destination, head + 8);
		copy_address(quoted.source, head + 24);
		quoted.protocol = head[6];
		at += 40;
	} else {
		return 0;
	}
	if (at + sizeof(port_pair) > packet->end || bpf_skb_load_bytes(skb, at, port_pair, sizeof(port_pair)))
		return 0;
	quoted.port = port_pair[0];
	quoted.source_port = port_pair[1];
	if (!same_address(quoted.destination, packet->flow.destination) ||
	    !same_address(quoted.source, packet->flow.source))
		return 0;
	if (quoted.protocol == IPPROTO_TCP)
		return find_inbound(&quoted, b->in.cookie) || is_allowed_connection(skb, &quoted, b->in.pod->netns_id);
	return quoted.protocol == IPPROTO_UDP && came_in_lately(&quoted, b->in.cookie);
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
	if (is_owed_error(skb, b))
		return PASS;
	return refuse_frame(skb, b, protocol_label(packet->flow.protocol), EGRESS_REASON_PROTOCOL, 0, RESET_NONE, NULL);
}

/* A frame whose fast path did not hold. */
static __always_inline int judge_frame(struct __sk_buff *skb, struct boundary *b)
{
	struct packet *packet = &b->packet;
	__u8 label = protocol_label(packet->flow.protocol);

	if (!same_mac(packet->mac, b->in.pod->mac))
		return refuse_frame(skb, b, EGRESS_OTHER, EGRESS_REASON_SPOOFED_SOURCE, 0, RESET_NONE, NULL);
	if (packet->kind == PACKET_ARP && is_honest_arp(skb, b->in.pod))
		return PASS;
	if (packet->kind == PACKET_ARP)
		return refuse_frame(skb, b, EGRESS_OTHER, EGRESS_REASON_SPOOFED_SOURCE, 0, RESET_NONE, NULL);
	if (packet->kind == PACKET_OTHER)
		return refuse_frame(skb, b, EGRESS_OTHER, EGRESS_REASON_PROTOCOL, 0, RESET_NONE, NULL);
	if (is_neighbour_discovery(skb, packet, b->in.pod))
		return PASS;
	if (!is_own_address(b->in.pod, packet->flow.source))
		return refuse_frame(skb, b, label, EGRESS_REASON_SPOOFED_SOURCE, 0, RESET_NONE, NULL);
	if (is_pod_itself(b->in.pod, packet->flow.destination))
		return refuse_frame(skb, b, label, EGRESS_REASON_POLICY, 0, RESET_NONE, NULL);
	if (is_ungoverned(&packet->flow, b->in.state))
		return PASS;
	if (packet->bad)
		return refuse_frame(skb, b, label, packet->bad, 0, RESET_NONE, NULL);
	if (packet->flow.protocol == IPPROTO_TCP)
		return tcp_frame(skb, b);
	return other_frame(skb, b);
}

static __always_inline int leave_pod(struct __sk_buff *skb)
{
	struct boundary b;

	if (is_established(skb))
		return PASS;
	parse_packet(skb, &b.packet);
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
	enum later_segment later = is_later_segment(skb);
	struct packet packet;
	struct governed in;

	if (later && !note_acknowledgement(skb, later == LATER_SYN))
		return PASS;
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
	if (!is_own_address(in.pod, packet.flow.source) && is_own_address(in.pod, packet.flow.destination))
		record_inbound(&packet, in.cookie);
	return PASS;
}

#endif
