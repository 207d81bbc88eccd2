/* sockops: the life of a TCP socket. The judged tuple becomes complete, the proxy's sockets learn where their clients
 * wanted to go, accepted ones whether they came in, and limits are kept. */
#ifndef EGRESS_TCP_EVENTS_H
#define EGRESS_TCP_EVENTS_H

#include "handover.h"
#include "inbound.h"
#include "limits.h"

/* All fields are read, and through volatile: clang may merge two reads of the context on two paths into one through a
 * computed pointer, which is refused. */
static __always_inline void addresses_of_ops(volatile struct bpf_sock_ops *ops, struct flow *flow)
{
	__u32 *source = (__u32 *)flow->source, *destination = (__u32 *)flow->destination;
	__u32 local = ops->local_ip4, remote = ops->remote_ip4;

	source[0] = ops->local_ip6[0];
	source[1] = ops->local_ip6[1];
	source[2] = ops->local_ip6[2];
	source[3] = ops->local_ip6[3];
	destination[0] = ops->remote_ip6[0];
	destination[1] = ops->remote_ip6[1];
	destination[2] = ops->remote_ip6[2];
	destination[3] = ops->remote_ip6[3];
	if (ops->family == AF_INET) {
		map_ip4(flow->source, local);
		map_ip4(flow->destination, remote);
	}
	flow->protocol = IPPROTO_TCP;
	flow->source_port = bpf_htons(ops->local_port);
	flow->port = bpf_htons(bpf_ntohl(ops->remote_port));
}

/* ---- TCP life cycle ---- */

/* The port is chosen and the SYN not yet out: the judged tuple becomes complete. */
static __always_inline void before_syn(struct bpf_sock_ops *ops, struct socket_verdict *verdict)
{
	struct flow flow = {};
	struct governed in;

	addresses_of_ops(ops, &flow);
	copy_address(verdict->source, flow.source);
	verdict->source_port = flow.source_port;
	/* The boundary lets segments of a standing verdict out without another look at their addresses. What goes to the
	 * pod itself has no need to leave. */
	if ((verdict->kind == EGRESS_SOCKET_ALLOWED || verdict->kind == EGRESS_SOCKET_TLS) &&
	    (!find_pod(verdict->cookie, &in) || !is_own_address(in.pod, flow.source) ||
	     is_pod_itself(in.pod, flow.destination))) {
		verdict->counted = 0;
		deny_socket(verdict, EGRESS_REASON_SPOOFED_SOURCE);
	}
	if (verdict->counted) {
		if (count_connection(verdict->slot, verdict->counted)) {
			bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
		} else {
			verdict->counted = 0;
			deny_socket(verdict, EGRESS_REASON_LIMIT); /* the boundary answers its SYN with a RST */
		}
	}
	if (verdict->kind == EGRESS_SOCKET_ALLOWED && verdict->policy)
		limit_handshake(ops, verdict);
	if (verdict->kind == EGRESS_SOCKET_REDIRECTED && begin_handover(verdict))
		bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* An accepted connection is inbound only where the boundary saw its SYN come in: a raw SYN sent to the pod's own
 * listener makes a genuine passive socket too. */
static __always_inline void after_accept(struct bpf_sock_ops *ops, struct bpf_sock *sk, const struct governed *in)
{
	struct flow flow = {};
	__be16 proxy_port;

	addresses_of_ops(ops, &flow);
	proxy_port = is_ip4(flow.source) ? in->pod->proxy_port4 : in->pod->proxy_port6;
	if (flow.source_port == proxy_port && is_own_address(in->pod, flow.source))
		hand_over(sk, &flow, in);
	else if (is_own_address(in->pod, flow.source) && find_inbound(&flow, in->cookie))
		store_inbound(sk, &flow, in);
}

static __always_inline void after_close(struct socket_verdict *verdict)
{
	if (verdict->counted)
		release_connection(verdict);
	if (verdict->kind == EGRESS_SOCKET_REDIRECTED)
		forget_handover(verdict);
}

static __always_inline void on_sockops(struct bpf_sock_ops *ops)
{
	struct socket_verdict *verdict;
	struct bpf_sock *sk = ops->sk;
	struct governed in;
	__u32 op = ops->op;

	if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB &&
	    op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_STATE_CB)
		return;
	if (!sk)
		return;
	if (op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		if (find_pod(bpf_get_netns_cookie(ops), &in))
			after_accept(ops, sk, &in);
		return;
	}
	verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!verdict)
		return;
	if (op == BPF_SOCK_OPS_TCP_CONNECT_CB) {
		before_syn(ops, verdict);
	} else if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
		verdict->once_allowed = 1;
		release_handshake(ops, verdict);
	} else if (ops->args[1] == BPF_TCP_CLOSE) {
		after_close(verdict);
	}
}

#endif
