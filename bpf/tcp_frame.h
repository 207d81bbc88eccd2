/* TCP at the boundary: a segment passes by the verdict of the socket that sent it, on the very tuple that was judged. */
#ifndef EGRESS_TCP_FRAME_H
#define EGRESS_TCP_FRAME_H

#include "inbound.h"
#include "tls_frame.h"

static __always_inline int is_tuple(const struct socket_verdict *verdict, const struct flow *flow)
{
	return verdict->port == flow->port && verdict->source_port == flow->source_port &&
	       same_address(verdict->destination, flow->destination) && same_address(verdict->source, flow->source);
}

/* The pod's socket whose connection this is, also one in TIME_WAIT, or NULL; to be released. */
static __always_inline struct bpf_sock *find_owner(struct __sk_buff *skb, const struct flow *flow, __s32 netns_id)
{
	struct bpf_sock_tuple tuple;
	__u32 size = socket_tuple(&tuple, flow->destination, flow->port, flow->source, flow->source_port);

	return bpf_skc_lookup_tcp(skb, &tuple, size, netns_id, 0);
}

/* Its state (BPF_TCP_*), 0 if there is none. */
static __always_inline __u32 owner_state(struct __sk_buff *skb, const struct flow *flow, __s32 netns_id)
{
	struct bpf_sock *found = find_owner(skb, flow, netns_id);
	__u32 state;

	if (!found)
		return 0;
	state = found->state;
	bpf_sk_release(found);
	return state == BPF_TCP_LISTEN ? 0 : state;
}

/* Does this segment without payload answer what came in? A SYN-ACK only the very SYN that was seen, and a SYN never:
 * a pod may not turn round a connection that was opened towards it. */
static __always_inline int answers_segment(const struct packet *packet, __u64 cookie)
{
	struct inbound *record = find_inbound(&packet->flow, cookie);

	if (!record)
		return 0;
	if (packet->flags & TCP_SYN)
		return packet->flags & TCP_ACK && packet->acknowledged == record->sequence + 1;
	return 1;
}

/* A segment that no TCP socket of the pod sent itself. It passes without payload and SYN, if it belongs to a connection
 * in TIME_WAIT or to a handshake that came in, or answers something that came in. All else is refused; with a RST,
 * but not where a connection has this very tuple: that one has done nothing. */
static __always_inline int loose_segment(struct __sk_buff *skb, struct boundary *b)
{
	struct packet *packet = &b->packet;
	int bare = packet->payload == packet->end;
	__u32 owner;

	if (bare && answers_segment(packet, b->in.cookie))
		return PASS;
	owner = owner_state(skb, &packet->flow, b->in.pod->netns_id);
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
		return answers_segment(packet, b->in.cookie)
		               ? PASS
		               : refuse_frame(skb, b, EGRESS_TCP, EGRESS_REASON_NO_SOCKET, 0, RESET_POD, NULL);
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
	hello = bpf_sk_storage_get(&hellos, sk, NULL, 0);
	if (judge_again(verdict, hello, &b->in))
		return reset_connection(skb, packet, 1, PASS);
	switch (verdict->kind) {
	case EGRESS_SOCKET_ALLOWED:
	case EGRESS_SOCKET_INBOUND: return PASS;
	case EGRESS_SOCKET_TLS: return tls_frame(skb, b, verdict, sk);
	}
	if (packet->payload == packet->end && !(packet->flags & TCP_SYN) && verdict->once_allowed)
		return PASS; /* the RST or FIN of a connection that was cut */
	if (b->in.state->audit)
		return PASS; /* told at connect */
	return reset_connection(skb, packet, verdict->once_allowed, PASS);
}

#endif
