/* connect() and getpeername(): refused, judged by what will be sent, or sent to the proxy. */
#ifndef EGRESS_CONNECT_H
#define EGRESS_CONNECT_H

#include <linux/errno.h>

#include "handover.h"
#include "hello_memory.h"
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
		if (is_ip4(address) == ip4 && !is_link_local(address))
			return 1;
	}
	return 0;
}

/* The address that the socket is bound to, for reports: the kernel has not chosen a source yet. */
static __always_inline void bound_source(volatile struct bpf_sock *sk, int ip6, struct flow *flow)
{
	__u32 *words = (__u32 *)flow->source;

	__builtin_memset(flow->source, 0, sizeof(flow->source));
	if (!sk)
		return;
	if (!ip6) {
		map_ip4(flow->source, sk->src_ip4);
	} else {
		words[0] = sk->src_ip6[0];
		words[1] = sk->src_ip6[1];
		words[2] = sk->src_ip6[2];
		words[3] = sk->src_ip6[3];
	}
}

/* Does anybody listen there, in the pod? */
static __always_inline int has_listener(struct bpf_sock_addr *ctx, const __u8 address[16], __be16 port)
{
	static const __u8 any[16];
	struct bpf_sock_tuple tuple;
	__u32 size = socket_tuple(&tuple, any, 0, address, port);
	struct bpf_sock *found;

	found = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return 0;
	bpf_sk_release(found);
	return 1;
}

/* Sends an HTTP connection to the pod's proxy. Returns 0, or the enum egress_reason why that cannot be. */
static __always_inline __u8 redirect(struct bpf_sock_addr *ctx, int ip6, const struct governed *in,
                                     struct socket_verdict *verdict)
{
	const struct pod *pod = in->pod;
	int ip4 = is_ip4(verdict->destination);
	const __u8 *proxy = ip4 ? pod->proxy_address4 : pod->proxy_address6;
	__be16 port = ip4 ? pod->proxy_port4 : pod->proxy_port6;

	if (!has_handover_room(pod->slot))
		return EGRESS_REASON_TABLE_FULL;
	if (!port)
		return EGRESS_REASON_PROXY_UNAVAILABLE;
	/* An agent that was killed has not taken the port back. Where that is a refusal it may be one by the pod's own
	 * network; under audit the connection goes direct. */
	if (in->state->audit && !has_listener(ctx, proxy, port))
		return EGRESS_REASON_PROXY_UNAVAILABLE;
	copy_address(verdict->original, verdict->destination);
	verdict->original_port = verdict->port;
	copy_address(verdict->destination, proxy);
	verdict->port = port;
	rewrite_address(ctx, ip6, verdict->destination, port);
	return 0;
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

static __always_inline int connect_tcp(struct bpf_sock_addr *ctx, int ip6, struct flow *flow, const struct governed *in,
                                       struct socket_verdict *verdict)
{
	struct judgement out;
	__u8 reason;

	flow->protocol = IPPROTO_TCP;
	judge_connection(flow, in->pod, in->state, &out);
	if (verdict->proxy)
		narrow_to_proxy(verdict, in->state, &out);
	store_judgement(verdict, flow, &out);
	/* Without an address of the family the kernel's own error lets clients fall back; a frame would be dropped. */
	if (out.reason != EGRESS_REASON_MESH && !has_family(in->pod, is_ip4(flow->destination)))
		return HOOK_PASS;
	reason = out.kind == EGRESS_SOCKET_REDIRECTED ? redirect(ctx, ip6, in, verdict) : 0;
	if (reason) {
		out.kind = EGRESS_SOCKET_DENIED;
		out.reason = reason;
		deny_socket(verdict, reason);
	}
	bound_source(ctx->sk, ip6, flow);
	return settle_connect(flow, in, &out, verdict);
}

/* What was read of an earlier connection of this socket. */
static __always_inline void forget_stream(struct bpf_sock *sk, __u32 slot)
{
	struct hello *hello = bpf_sk_storage_get(&hellos, sk, NULL, 0);

	if (!hello)
		return;
	forget_hello(hello, slot);
	bpf_sk_storage_delete(&hellos, sk);
	bpf_sk_storage_delete(&second_hellos, sk);
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
	verdict = bounded_verdict(ctx->sk, &in);
	if (!verdict) {
		bound_source(ctx->sk, ip6, &flow);
		tell(&flow, &in, EGRESS_TCP, EGRESS_DENY, EGRESS_REASON_TABLE_FULL, 0, EGRESS_HOOK_CONNECT, NULL);
		return refuse_connect();
	}
	if (ctx->type == SOCK_DGRAM) {
		/* Resolvers connect UDP sockets to sort addresses; the send is refused, by send_datagram(). */
		verdict->kind = EGRESS_SOCKET_DATAGRAM;
		return HOOK_PASS;
	}
	forget_stream(ctx->sk, in.pod->slot);
	if (connect_tcp(ctx, ip6, &flow, &in, verdict) == HOOK_PASS)
		return HOOK_PASS;
	if (!verdict->proxy) { /* a program may keep refused sockets; they cost nothing here */
		release_verdict(verdict);
		bpf_sk_storage_delete(&sockets, ctx->sk);
	}
	return HOOK_REFUSE;
}

/* close(). */
static __always_inline int on_release(struct bpf_sock *sk)
{
	struct socket_verdict *verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);

	if (!verdict)
		return HOOK_PASS;
	forget_hello(bpf_sk_storage_get(&hellos, sk, NULL, 0), verdict->slot);
	release_verdict(verdict);
	return HOOK_PASS;
}

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

#endif
