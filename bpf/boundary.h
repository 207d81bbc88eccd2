/* The last word: frames at the host side of a pod's veth. Default deny for all that leaves; records of what enters. */
#ifndef EGRESS_BOUNDARY_H
#define EGRESS_BOUNDARY_H

#include "connect.h"

static __always_inline int hello_load(void *skb, __u32 offset, void *to, __u32 length)
{
	return bpf_skb_load_bytes(skb, offset, to, length);
}
#define HELLO_LOAD hello_load

#include "hello.h"
#include "reset.h"

/* What to do with a frame that passes: TC_ACT_UNSPEC (= TCX_NEXT), so that the CNI's own programs still run. */
#define PASS TC_ACT_UNSPEC
#define DROP TC_ACT_SHOT

struct boundary {
	struct packet packet;
	struct governed in;
};

/* Tells a refusal; under audit the frame passes all the same. `reset` TCP: whom to tell. */
enum reset_whom { RESET_NONE = 0, RESET_POD, RESET_BOTH };

static __always_inline int refuse_frame(struct __sk_buff *skb, struct boundary *b, __u8 label, __u8 reason,
					__u32 policy, enum reset_whom whom, const struct hello *hello)
{
	__u8 verdict = b->in.state->audit ? EGRESS_AUDIT : EGRESS_DENY;

	tell(&b->packet.flow, &b->in, label, verdict, reason, policy, EGRESS_HOOK_BOUNDARY, hello);
	if (verdict == EGRESS_AUDIT)
		return PASS;
	if (whom == RESET_NONE || b->packet.flow.protocol != IPPROTO_TCP)
		return DROP;
	return reset_connection(skb, &b->packet, whom == RESET_BOTH, PASS);
}

/* ---- https: the ClientHello on the bytes that leave ---- */

/* Reads what is new of the stream. Returns 0 to go on, else the reason to refuse. */
__noinline int read_hello(struct __sk_buff *skb, const struct packet *packet, struct hello *hello)
{
	__u32 length, skip;
	struct hello_input input = { .source = skb, .hello = hello };
	__u64 now = bpf_ktime_get_ns();

	if (!packet || !hello)
		return EGRESS_REASON_NOT_TLS;
	length = packet->end - packet->payload;
	skip = hello->next_sequence - packet->sequence - !!(packet->flags & TCP_SYN);
	input.offset = packet->payload + skip;
	input.left = length - skip;
	if (packet->flags & TCP_URG)
		return EGRESS_REASON_NOT_TLS; /* urgent data is in our stream but not in what a server reads */
	if (!hello->started_ns)
		hello->started_ns = now;
	if (now - hello->started_ns > EGRESS_HELLO_SECONDS * 1000000000ULL)
		return EGRESS_REASON_NOT_TLS;
	bpf_loop(HELLO_TURNS, hello_turn, &input, 0);
	hello->bytes += length - skip - input.left;
	hello->next_sequence += length - skip;
	if (hello->step == HELLO_REFUSED || !input.done)
		return hello->names ? EGRESS_REASON_NO_SNI : EGRESS_REASON_NOT_TLS;
	if (hello->step == HELLO_DONE && !hello->names)
		return EGRESS_REASON_NO_SNI;
	return 0;
}

/* The name is judged once it is complete, and again when the rules have changed. */
static __always_inline __u8 judge_hello(struct hello *hello, struct socket_verdict *verdict, const struct governed *in)
{
	__u32 class;

	if (hello->judged || hello->step == HELLO_NAME || !hello->name_length)
		return 0;
	class = find_class(in->state->ruleset, in->state->generation, verdict->destination, verdict->port);
	verdict->policy = judge_name(hello, class, in->state->generation);
	if (!verdict->policy)
		return EGRESS_REASON_SNI_MISMATCH;
	hello->judged = 1;
	return 0;
}

static __always_inline int pass_tls(struct __sk_buff *skb, struct boundary *b, struct socket_verdict *verdict,
				    struct hello *hello)
{
	struct packet *packet = &b->packet;
	__u32 length = packet->end - packet->payload;
	__u32 begins = packet->sequence + !!(packet->flags & TCP_SYN);
	__u8 reason;

	if (packet->flags & TCP_SYN && !hello->bytes) {
		hello->next_sequence = begins;
		hello->started = 1;
	}
	if (!length)
		return PASS;
	if (!hello->started || (__s32)(begins - hello->next_sequence) > 0)
		return DROP; /* runs ahead of what has been read; TCP sends it again */
	if ((__s32)(begins + length - hello->next_sequence) <= 0)
		return PASS; /* sent again */
	reason = read_hello(skb, packet, hello);
	if (!reason)
		reason = judge_hello(hello, verdict, &b->in);
	if (reason) {
		verdict->kind = EGRESS_SOCKET_DENIED;
		verdict->reason = reason;
		if (b->in.state->audit)
			verdict->kind = EGRESS_SOCKET_ALLOWED;
		return refuse_frame(skb, b, EGRESS_HTTPS, reason, 0, RESET_BOTH, hello);
	}
	if (hello->step == HELLO_DONE)
		tell(&packet->flow, &b->in, EGRESS_HTTPS, EGRESS_ALLOW, EGRESS_REASON_RULE, verdict->policy,
		     EGRESS_HOOK_BOUNDARY, hello);
	return PASS;
}

/* Two CPUs can carry segments of one connection: the second drops its own, and TCP sends it again. */
static __always_inline int tls_frame(struct __sk_buff *skb, struct boundary *b, struct socket_verdict *verdict,
				     struct bpf_sock *sk)
{
	struct hello *hello = bpf_sk_storage_get(&hellos, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	int action;

	if (!hello)
		return refuse_frame(skb, b, EGRESS_HTTPS, EGRESS_REASON_TABLE_FULL, 0, RESET_POD, NULL);
	if (hello->step == HELLO_DONE && hello->judged)
		return PASS;
	if (__sync_val_compare_and_swap(&hello->busy, 0, 1))
		return DROP;
	action = pass_tls(skb, b, verdict, hello);
	*(volatile __u32 *)&hello->busy = 0;
	return action;
}

/* ---- TCP ---- */

static __always_inline int is_tuple(const struct socket_verdict *verdict, const struct flow *flow)
{
	return verdict->port == flow->port && verdict->source_port == flow->source_port &&
	       same_address(verdict->destination, flow->destination) && same_address(verdict->source, flow->source);
}

/* State of the pod's socket that has the tuple of this segment (BPF_TCP_*), 0 if none has. */
static __always_inline __u32 owner_state(struct __sk_buff *skb, const struct boundary *b)
{
	const struct packet *packet = &b->packet;
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *found;
	__u32 size;

	if (is_ip4(packet->flow.source)) {
		size = sizeof(tuple.ipv4);
		__builtin_memcpy(&tuple.ipv4.saddr, packet->flow.destination + 12, 4);
		__builtin_memcpy(&tuple.ipv4.daddr, packet->flow.source + 12, 4);
		tuple.ipv4.sport = packet->flow.port;
		tuple.ipv4.dport = packet->flow.source_port;
	} else {
		size = sizeof(tuple.ipv6);
		__builtin_memcpy(tuple.ipv6.saddr, packet->flow.destination, 16);
		__builtin_memcpy(tuple.ipv6.daddr, packet->flow.source, 16);
		tuple.ipv6.sport = packet->flow.port;
		tuple.ipv6.dport = packet->flow.source_port;
	}
	found = bpf_skc_lookup_tcp(skb, &tuple, size, b->in.pod->netns_id, 0);
	if (!found)
		return 0;
	size = found->state;
	bpf_sk_release(found);
	return size == BPF_TCP_LISTEN ? 0 : size;
}

/* A segment that no TCP socket of the pod sent itself. It passes without payload and SYN, if it belongs to a connection
 * in TIME_WAIT or to a handshake that came in, or answers something that came in. All else is refused; with a RST,
 * but not where a connection has this very tuple: that one has done nothing. */
static __always_inline int loose_segment(struct __sk_buff *skb, struct boundary *b)
{
	struct packet *packet = &b->packet;
	int bare = packet->payload == packet->end;
	__u32 owner;

	if (bare && find_inbound(&packet->flow, b->in.cookie))
		return PASS; /* also a SYN-ACK: against the record of its SYN */
	owner = owner_state(skb, b);
	if (bare && owner && !(packet->flags & TCP_SYN))
		return PASS;
	return refuse_frame(skb, b, EGRESS_TCP, EGRESS_REASON_NO_SOCKET, 0, owner ? RESET_NONE : RESET_POD, NULL);
}

/* A live TCP socket without a verdict: older than its pod's enrolment, or never seen by a socket hook. */
static __always_inline int adopt(struct __sk_buff *skb, struct boundary *b, struct bpf_sock *sk)
{
	struct packet *packet = &b->packet;
	struct socket_verdict *verdict;
	struct judgement out;

	if (sk->family != AF_INET && sk->family != AF_INET6)
		return loose_segment(skb, b);
	if (sk->protocol != IPPROTO_TCP || sk->src_port != bpf_ntohs(packet->flow.source_port) ||
	    sk->dst_port != packet->flow.port)
		return loose_segment(skb, b);
	if (packet->flags & TCP_SYN) /* of a socket outside the pod's cgroup, or a SYN-ACK by Fast Open */
		return packet->flags & TCP_ACK && find_inbound(&packet->flow, b->in.cookie) ?
			       PASS :
			       refuse_frame(skb, b, EGRESS_TCP, EGRESS_REASON_NO_SOCKET, 0, RESET_POD, NULL);
	if (find_inbound(&packet->flow, b->in.cookie)) {
		store_inbound(sk, &packet->flow, &b->in);
		return PASS;
	}
	judge_connection(&packet->flow, b->in.pod, b->in.state, &out);
	if (out.kind != EGRESS_SOCKET_ALLOWED && out.reason != EGRESS_REASON_LIMIT)
		return refuse_frame(skb, b, out.label, EGRESS_REASON_REVOKED, out.policy, RESET_BOTH, NULL);
	verdict = fresh_verdict(sk, &b->in);
	if (!verdict)
		return DROP;
	out.counted = 0;
	store_judgement(verdict, &packet->flow, &out);
	verdict->kind = EGRESS_SOCKET_ALLOWED;
	verdict->once_allowed = 1;
	copy_address(verdict->source, packet->flow.source);
	verdict->source_port = packet->flow.source_port;
	return PASS;
}

static __always_inline int tcp_frame(struct __sk_buff *skb, struct boundary *b)
{
	struct packet *packet = &b->packet;
	struct socket_verdict *verdict;
	struct bpf_sock *sk = skb->sk;
	struct hello *hello;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return loose_segment(skb, b);
	verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!verdict || verdict->cookie != b->in.cookie)
		return adopt(skb, b, sk);
	if (!is_tuple(verdict, &packet->flow)) /* rewritten on its way, or a segment that only borrows the socket */
		return refuse_frame(skb, b, EGRESS_TCP, EGRESS_REASON_NO_SOCKET, 0, RESET_NONE, NULL);
	hello = verdict->kind == EGRESS_SOCKET_TLS ? bpf_sk_storage_get(&hellos, sk, NULL, 0) : NULL;
	if (judge_again(verdict, hello, &b->in))
		return reset_connection(skb, packet, 1, PASS);
	switch (verdict->kind) {
	case EGRESS_SOCKET_ALLOWED:
	case EGRESS_SOCKET_INBOUND:
		return PASS;
	case EGRESS_SOCKET_TLS:
		return tls_frame(skb, b, verdict, sk);
	}
	if (packet->payload == packet->end && !(packet->flags & TCP_SYN) && verdict->once_allowed)
		return PASS; /* the RST or FIN of a connection that was cut */
	if (b->in.state->audit)
		return PASS; /* told at connect */
	return reset_connection(skb, packet, verdict->once_allowed, PASS);
}

/* ---- All else ---- */

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

/* The pod speaks first on a flow: what comes back is an answer and opens nothing. */
static __always_inline void note_opened_here(const struct flow *flow, __u64 cookie)
{
	struct inbound_key key = {
		.local_port = flow->source_port, .remote_port = flow->port, .protocol = flow->protocol,
	};
	struct inbound record = { .opened_here = 1 };
	void *records = bpf_map_lookup_elem(&inbound, &cookie);

	if (!records)
		return;
	copy_address(key.local, flow->source);
	copy_address(key.remote, flow->destination);
	record.seen_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(records, &key, &record, BPF_ANY);
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

static __always_inline void record_inbound(const struct packet *packet, __u64 cookie)
{
	const struct flow *flow = &packet->flow;
	struct inbound_key key = {
		.local_port = flow->port, .remote_port = flow->source_port, .protocol = flow->protocol,
	};
	struct inbound *known, record = { .sequence = packet->sequence };
	void *records = bpf_map_lookup_elem(&inbound, &cookie);

	if (!records)
		return;
	copy_address(key.local, flow->destination);
	copy_address(key.remote, flow->source);
	record.seen_ns = bpf_ktime_get_ns();
	known = bpf_map_lookup_elem(records, &key);
	/* An answer to what the pod began stays an answer, for as long as the exchange goes on. */
	if (known && known->opened_here && record.seen_ns - known->seen_ns < EGRESS_INBOUND_SECONDS * 1000000000ULL) {
		known->seen_ns = record.seen_ns;
		return;
	}
	bpf_map_update_elem(records, &key, &record, BPF_ANY);
}

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
