/* The socket hooks: connect, sendmsg, getpeername, sockops, and the manners of cgroup_skb. */
#ifndef EGRESS_CONNECT_H
#define EGRESS_CONNECT_H

#include <linux/errno.h>

#include "packet.h"
#include "socket.h"

#define SOCK_STREAM 1
#define SOCK_DGRAM 2

enum { HOOK_REFUSE = 0, HOOK_PASS = 1 };

static __always_inline int refuse_connect(void)
{
	bpf_set_retval(-ECONNREFUSED);
	return HOOK_REFUSE;
}

static __always_inline void address_of_context(struct bpf_sock_addr *ctx, int ip6, struct flow *flow)
{
	if (!ip6) {
		map_ip4(flow->destination, ctx->user_ip4);
	} else {
		__u32 *words = (__u32 *)flow->destination;

		words[0] = ctx->user_ip6[0];
		words[1] = ctx->user_ip6[1];
		words[2] = ctx->user_ip6[2];
		words[3] = ctx->user_ip6[3];
	}
	flow->port = (__be16)ctx->user_port;
}

static __always_inline void rewrite_address(struct bpf_sock_addr *ctx, int ip6, const __u8 address[16], __be16 port)
{
	const __u32 *words = (const __u32 *)address;

	if (!ip6) {
		ctx->user_ip4 = words[3];
	} else {
		ctx->user_ip6[0] = words[0];
		ctx->user_ip6[1] = words[1];
		ctx->user_ip6[2] = words[2];
		ctx->user_ip6[3] = words[3];
	}
	ctx->user_port = port;
}

/* Has the pod an address of this family (link-local ones of IPv6 do not count)? */
static __always_inline int has_family(const struct pod *pod, int ip4)
{
	for (int i = 0; i < EGRESS_MAX_POD_ADDRESSES; i++) {
		const __u8 *address = pod->addresses[i];

		if (i >= pod->address_count)
			break;
		if (is_ip4(address) == ip4 && !(address[0] == 0xfe && (address[1] & 0xc0) == 0x80))
			return 1;
	}
	return 0;
}

/* Sends an HTTP connection to the pod's proxy. Returns 0 where there is none. */
static __always_inline int redirect(struct bpf_sock_addr *ctx, int ip6, const struct pod *pod,
				    struct socket_verdict *verdict)
{
	int ip4 = is_ip4(verdict->destination);
	__be16 port = ip4 ? pod->proxy_port4 : pod->proxy_port6;

	if (!port)
		return 0;
	copy_address(verdict->original, verdict->destination);
	verdict->original_port = verdict->port;
	copy_address(verdict->destination, ip4 ? pod->proxy_address4 : pod->proxy_address6);
	verdict->port = port;
	rewrite_address(ctx, ip6, verdict->destination, port);
	return 1;
}

/* A verdict for `sk`, whatever it carried before. Marks of the proxy's own sockets stay. */
static __always_inline struct socket_verdict *fresh_verdict(struct bpf_sock *sk, const struct governed *in)
{
	struct socket_verdict *verdict = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	__u8 proxy;

	if (!verdict)
		return NULL;
	proxy = verdict->proxy;
	__builtin_memset(verdict, 0, sizeof(*verdict));
	verdict->version = EGRESS_SOCKET_VERSION;
	verdict->proxy = proxy;
	verdict->slot = in->pod->slot;
	verdict->cookie = in->cookie;
	verdict->generation = in->state->generation;
	return verdict;
}

static __always_inline void store_judgement(struct socket_verdict *verdict, const struct flow *flow,
					    const struct judgement *out)
{
	copy_address(verdict->destination, flow->destination);
	verdict->port = flow->port;
	verdict->kind = out->kind;
	verdict->reason = out->reason;
	verdict->policy = out->policy;
	verdict->counted = out->counted;
	verdict->protocols = out->protocols;
}

/* Under audit nothing is refused: what would have been is let through and told. */
static __always_inline int settle_connect(struct flow *flow, const struct governed *in, struct judgement *out,
					  struct socket_verdict *verdict)
{
	__u8 said = out->kind == EGRESS_SOCKET_DENIED ? EGRESS_DENY : EGRESS_ALLOW;

	if (said == EGRESS_DENY && in->state->audit) {
		said = EGRESS_AUDIT;
		verdict->kind = EGRESS_SOCKET_ALLOWED;
	}
	if (out->kind != EGRESS_SOCKET_TLS && !(verdict->proxy && said == EGRESS_ALLOW))
		tell(flow, in, out->label, said, out->reason, out->policy, EGRESS_HOOK_CONNECT, NULL);
	return said == EGRESS_DENY ? refuse_connect() : HOOK_PASS;
}

static __always_inline int connect_tcp(struct bpf_sock_addr *ctx, int ip6, struct flow *flow,
				       const struct governed *in, struct socket_verdict *verdict)
{
	struct judgement out;

	flow->protocol = IPPROTO_TCP;
	judge_connection(flow, in->pod, in->state, &out);
	if (verdict->proxy)
		narrow_to_proxy(verdict, in->state, &out);
	store_judgement(verdict, flow, &out);
	/* Without an address of the family the kernel's own error lets clients fall back; a frame would be dropped. */
	if (out.reason != EGRESS_REASON_MESH && !has_family(in->pod, is_ip4(flow->destination)))
		return HOOK_PASS;
	if (out.kind == EGRESS_SOCKET_REDIRECTED && !redirect(ctx, ip6, in->pod, verdict)) {
		out.kind = EGRESS_SOCKET_DENIED;
		out.reason = EGRESS_REASON_PROXY_UNAVAILABLE;
		verdict->kind = out.kind;
		verdict->reason = out.reason;
	}
	return settle_connect(flow, in, &out, verdict);
}

static __always_inline int on_connect(struct bpf_sock_addr *ctx, int ip6)
{
	struct socket_verdict *verdict;
	struct flow flow = {};
	struct governed in;

	if (!find_pod(bpf_get_netns_cookie(ctx), &in))
		return HOOK_PASS;
	if (ctx->type != SOCK_STREAM && ctx->type != SOCK_DGRAM)
		return HOOK_PASS; /* the boundary drops it */
	address_of_context(ctx, ip6, &flow);
	if (!ctx->sk)
		return refuse_connect();
	verdict = fresh_verdict(ctx->sk, &in);
	if (!verdict) {
		tell(&flow, &in, EGRESS_TCP, EGRESS_DENY, EGRESS_REASON_TABLE_FULL, 0, EGRESS_HOOK_CONNECT, NULL);
		return refuse_connect();
	}
	if (ctx->type == SOCK_DGRAM) {
		/* Resolvers connect UDP sockets to sort addresses; the send is refused, by send_datagram(). */
		verdict->kind = EGRESS_SOCKET_DATAGRAM;
		return HOOK_PASS;
	}
	bpf_sk_storage_delete(&hellos, ctx->sk);
	return connect_tcp(ctx, ip6, &flow, &in, verdict);
}

/* ---- Datagrams ---- */

/* Did a datagram of this flow come in within the last seconds? Then the pod may answer. */
static __always_inline int answers_inbound(const struct flow *flow, __u64 cookie)
{
	struct inbound_key key = {
		.local_port = flow->source_port, .remote_port = flow->port, .protocol = flow->protocol,
	};
	void *records = bpf_map_lookup_elem(&inbound, &cookie);
	struct inbound *record;

	if (!records)
		return 0;
	copy_address(key.local, flow->source);
	copy_address(key.remote, flow->destination);
	record = bpf_map_lookup_elem(records, &key);
	return record && !record->opened_here &&
	       bpf_ktime_get_ns() - record->seen_ns < EGRESS_INBOUND_SECONDS * 1000000000ULL;
}

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
		__builtin_memset(flow.source, 0, sizeof(flow.source));
	}
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

/* ---- Peer names ---- */

/* A redirected socket says that it is connected to where it wanted to go. */
static __always_inline int on_getpeername(struct bpf_sock_addr *ctx, int ip6)
{
	struct socket_verdict *verdict;

	if (!ctx->sk)
		return HOOK_PASS;
	verdict = bpf_sk_storage_get(&sockets, ctx->sk, NULL, 0);
	if (verdict && verdict->kind == EGRESS_SOCKET_REDIRECTED)
		rewrite_address(ctx, ip6, verdict->original, verdict->original_port);
	return HOOK_PASS;
}

/* ---- TCP life cycle ---- */

/* volatile: clang may merge two reads of the context into one through a computed pointer, which is refused. */
static __always_inline void addresses_of_ops(volatile struct bpf_sock_ops *ops, struct flow *flow)
{
	flow->protocol = IPPROTO_TCP;
	if (ops->family == AF_INET) {
		map_ip4(flow->source, ops->local_ip4);
		map_ip4(flow->destination, ops->remote_ip4);
	} else {
		__u32 *source = (__u32 *)flow->source, *destination = (__u32 *)flow->destination;

		source[0] = ops->local_ip6[0];
		source[1] = ops->local_ip6[1];
		source[2] = ops->local_ip6[2];
		source[3] = ops->local_ip6[3];
		destination[0] = ops->remote_ip6[0];
		destination[1] = ops->remote_ip6[1];
		destination[2] = ops->remote_ip6[2];
		destination[3] = ops->remote_ip6[3];
	}
	flow->source_port = bpf_htons(ops->local_port);
	flow->port = bpf_htons(bpf_ntohl(ops->remote_port));
}

/* Adds one connection to what counts against a limit; 0 if there is no room. */
static __always_inline int count_connection(__u32 slot, __u32 policy_id)
{
	struct connection_key key = { .slot = slot, .policy = policy_id };
	struct policy *policy = bpf_map_lookup_elem(&policies, &policy_id);
	__u32 one = 1, *used = bpf_map_lookup_elem(&connections, &key);

	if (!policy)
		return 0;
	if (!used && policy->limited && !policy->max_connections)
		return 0;
	if (!used) {
		if (!bpf_map_update_elem(&connections, &key, &one, BPF_NOEXIST))
			return 1;
		used = bpf_map_lookup_elem(&connections, &key); /* another CPU was faster */
		if (!used)
			return 0;
	}
	if (policy->limited && __sync_fetch_and_add(used, 1) >= policy->max_connections) {
		__sync_fetch_and_add(used, -1);
		return 0;
	}
	return 1;
}

static __always_inline void release_connection(struct socket_verdict *verdict)
{
	struct connection_key key = { .slot = verdict->slot, .policy = verdict->counted };
	__u32 *used = bpf_map_lookup_elem(&connections, &key);

	if (used && *used)
		__sync_fetch_and_add(used, -1);
	verdict->counted = 0;
}

/* connectTimeout of the policy, by way of TCP_USER_TIMEOUT, which ends a connection attempt too (tcp(7)). */
static __always_inline void limit_handshake(struct bpf_sock_ops *ops, struct socket_verdict *verdict)
{
	struct policy *policy = bpf_map_lookup_elem(&policies, &verdict->policy);
	int own = 0, timeout;

	if (!policy || !policy->connect_timeout_ms)
		return;
	timeout = policy->connect_timeout_ms;
	if (bpf_getsockopt(ops, IPPROTO_TCP, TCP_USER_TIMEOUT, &own, sizeof(own)) || (own && own <= timeout))
		return;
	if (bpf_setsockopt(ops, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout)))
		return;
	verdict->handshake_limited = 1;
	verdict->own_timeout_ms = own;
}

/* The handshake is done: the program's own TCP_USER_TIMEOUT again. */
static __always_inline void release_handshake(struct bpf_sock_ops *ops, struct socket_verdict *verdict)
{
	int own = verdict->own_timeout_ms;

	if (!verdict->handshake_limited)
		return;
	bpf_setsockopt(ops, IPPROTO_TCP, TCP_USER_TIMEOUT, &own, sizeof(own));
	verdict->handshake_limited = 0;
}

/* The port is chosen and the SYN not yet out: the judged tuple becomes complete. */
static __always_inline void before_syn(struct bpf_sock_ops *ops, struct bpf_sock *sk, const struct governed *in)
{
	struct socket_verdict *verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	struct handover_key key = {};
	struct handover value = {};
	struct flow flow = {};

	if (!verdict)
		return;
	addresses_of_ops(ops, &flow);
	copy_address(verdict->source, flow.source);
	verdict->source_port = flow.source_port;
	if (verdict->counted) {
		if (count_connection(verdict->slot, verdict->counted)) {
			bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
		} else {
			verdict->counted = 0;
			verdict->kind = EGRESS_SOCKET_DENIED; /* the boundary answers its SYN with a RST */
			verdict->reason = EGRESS_REASON_LIMIT;
		}
	}
	if (verdict->kind == EGRESS_SOCKET_ALLOWED && verdict->policy)
		limit_handshake(ops, verdict);
	if (verdict->kind != EGRESS_SOCKET_REDIRECTED)
		return;
	key.cookie = in->cookie;
	key.port = flow.source_port;
	copy_address(key.addr, flow.source);
	copy_address(value.addr, verdict->original);
	value.port = verdict->original_port;
	value.protocols = verdict->protocols & (EGRESS_HTTP | EGRESS_HTTPS);
	value.generation = verdict->generation;
	value.policy = verdict->policy;
	/* Where this fails the proxy finds no destination and resets the connection. */
	bpf_map_update_elem(&handover, &key, &value, BPF_ANY);
}

/* A connection that the proxy accepts: the child socket learns where its client wanted to go. */
static __always_inline void hand_over(struct bpf_sock *sk, const struct flow *flow, const struct governed *in)
{
	struct socket_verdict *verdict;
	struct handover_key key = {};
	struct handover *value;

	key.cookie = in->cookie;
	key.port = flow->port;
	copy_address(key.addr, flow->destination);
	value = bpf_map_lookup_elem(&handover, &key);
	if (!value)
		return;
	verdict = fresh_verdict(sk, in);
	if (verdict) {
		verdict->kind = EGRESS_SOCKET_DOWNSTREAM;
		verdict->generation = value->generation;
		verdict->policy = value->policy;
		verdict->protocols = value->protocols;
		verdict->original_port = value->port;
		copy_address(verdict->original, value->addr);
	}
	bpf_map_delete_elem(&handover, &key);
}

static __always_inline struct inbound *find_inbound(const struct flow *flow, __u64 cookie)
{
	struct inbound_key key = {
		.local_port = flow->source_port, .remote_port = flow->port, .protocol = flow->protocol,
	};
	void *records = bpf_map_lookup_elem(&inbound, &cookie);

	if (!records)
		return NULL;
	copy_address(key.local, flow->source);
	copy_address(key.remote, flow->destination);
	return bpf_map_lookup_elem(records, &key);
}

static __always_inline void store_inbound(struct bpf_sock *sk, const struct flow *flow, const struct governed *in)
{
	struct socket_verdict *verdict = fresh_verdict(sk, in);

	if (!verdict)
		return;
	verdict->kind = EGRESS_SOCKET_INBOUND;
	verdict->reason = EGRESS_REASON_INBOUND;
	verdict->once_allowed = 1;
	copy_address(verdict->source, flow->source);
	copy_address(verdict->destination, flow->destination);
	verdict->source_port = flow->source_port;
	verdict->port = flow->port;
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
	else if (find_inbound(&flow, in->cookie))
		store_inbound(sk, &flow, in);
}

static __always_inline void on_sockops(struct bpf_sock_ops *ops)
{
	struct socket_verdict *verdict;
	struct bpf_sock *sk = ops->sk;
	struct governed in;

	if (ops->op != BPF_SOCK_OPS_TCP_CONNECT_CB && ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB &&
	    ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && ops->op != BPF_SOCK_OPS_STATE_CB)
		return;
	if (!sk)
		return;
	if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || ops->op == BPF_SOCK_OPS_STATE_CB) {
		verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
		if (!verdict)
			return;
		if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
			verdict->once_allowed = 1;
			release_handshake(ops, verdict);
		} else if (ops->args[1] == BPF_TCP_CLOSE && verdict->counted) {
			release_connection(verdict);
		}
		return;
	}
	if (!find_pod(bpf_get_netns_cookie(ops), &in))
		return;
	if (ops->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		before_syn(ops, sk, &in);
	else
		after_accept(ops, sk, &in);
}

#endif
