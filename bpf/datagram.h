/* sendmsg() and the manners of cgroup_skb: a program whose datagram may not leave gets EPERM. */
#ifndef EGRESS_DATAGRAM_H
#define EGRESS_DATAGRAM_H

#include "connect.h"
#include "inbound.h"

/* ---- Datagrams ---- */

/* The same where the source address is not known yet: any of the pod's will do, the boundary looks again. */
static __always_inline int may_answer_inbound(struct flow *flow, const struct governed *in)
{
	for (int i = 0; i < EGRESS_MAX_POD_ADDRESSES; i++) {
		if (i >= in->pod->address_count)
			break;
		copy_address(flow->source, in->pod->addresses[i]);
		if (answers_inbound(flow, in->cookie))
			return 1;
	}
	return 0;
}

static __always_inline int deny_datagram(const struct flow *flow, const struct governed *in)
{
	__u8 verdict = in->state->audit ? EGRESS_AUDIT : EGRESS_DENY;

	tell(flow, in, protocol_label(flow->protocol), verdict, EGRESS_REASON_PROTOCOL, 0, EGRESS_HOOK_SEND, NULL);
	return verdict == EGRESS_AUDIT ? HOOK_PASS : HOOK_REFUSE; /* EPERM */
}

static __always_inline int on_sendmsg(struct bpf_sock_addr *ctx, int ip6)
{
	struct flow flow = { .protocol = IPPROTO_UDP };
	struct governed in;

	if (!find_pod(bpf_get_netns_cookie(ctx), &in))
		return HOOK_PASS;
	address_of_context(ctx, ip6, &flow);
	if (judge_packet(&flow, in.pod, in.state))
		return HOOK_PASS;
	if (ctx->sk) {
		flow.source_port = bpf_htons(ctx->sk->src_port);
		if (may_answer_inbound(&flow, &in))
			return HOOK_PASS;
	}
	bound_source(ctx->sk, ip6, &flow);
	return deny_datagram(&flow, &in);
}

/* cgroup_skb/egress: the send of a connected UDP socket hits no other socket hook. Decides nothing that the
 * boundary does not decide again; it is here for the error that the program gets. */
static __always_inline int send_datagram(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct socket_verdict *verdict;
	struct flow flow = { .protocol = IPPROTO_UDP };
	struct governed in;
	__u8 head[40];
	__be16 port_pair[2];

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != IPPROTO_UDP)
		return HOOK_PASS;
	verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!verdict || verdict->kind != EGRESS_SOCKET_DATAGRAM || !find_pod(verdict->cookie, &in))
		return HOOK_PASS;
	if (bpf_skb_load_bytes(skb, 0, head, 20))
		return HOOK_PASS;
	if (head[0] >> 4 == 4) {
		map_ip4(flow.source, *(__u32 *)(head + 12));
		map_ip4(flow.destination, *(__u32 *)(head + 16));
		if (bpf_skb_load_bytes(skb, (head[0] & 15) * 4, port_pair, sizeof(port_pair)))
			return HOOK_PASS;
	} else {
		if (bpf_skb_load_bytes(skb, 0, head, sizeof(head)) ||
		    bpf_skb_load_bytes(skb, sizeof(head), port_pair, sizeof(port_pair)))
			return HOOK_PASS;
		copy_address(flow.source, head + 8);
		copy_address(flow.destination, head + 24);
	}
	flow.source_port = port_pair[0];
	flow.port = port_pair[1];
	if (judge_packet(&flow, in.pod, in.state) || answers_inbound(&flow, in.cookie))
		return HOOK_PASS;
	return deny_datagram(&flow, &in);
}

#endif
