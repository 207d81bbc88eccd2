/* The verdict that a socket carries: made at connect, judged again when its pod's generation has moved on. */
#ifndef EGRESS_SOCKET_H
#define EGRESS_SOCKET_H

#include "judge_name.h"
#include "pod.h"
#include "report.h"

static __always_inline void tell(const struct flow *flow, const struct governed *in, __u8 protocol, __u8 verdict,
                                 __u8 reason, __u32 policy, __u8 hook, const struct hello *hello)
{
	struct decision decision = {
		.cookie = in->cookie,
		.slot = in->pod->slot,
		.policy = policy,
		.protocol = protocol,
		.verdict = verdict,
		.reason = reason,
		.hook = hook,
	};

	report(flow, &decision, hello);
}

/* The tuple by which the kernel finds the socket that is at `local` and, but for a listener, talks to `peer`. Returns its
 * size. */
static __always_inline __u32 socket_tuple(struct bpf_sock_tuple *tuple, const __u8 peer[16], __be16 peer_port,
                                          const __u8 local[16], __be16 local_port)
{
	__builtin_memset(tuple, 0, sizeof(*tuple));
	if (is_ip4(local)) {
		__builtin_memcpy(&tuple->ipv4.saddr, peer + 12, 4);
		__builtin_memcpy(&tuple->ipv4.daddr, local + 12, 4);
		tuple->ipv4.sport = peer_port;
		tuple->ipv4.dport = local_port;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, peer, 16);
	__builtin_memcpy(tuple->ipv6.daddr, local, 16);
	tuple->ipv6.sport = peer_port;
	tuple->ipv6.dport = local_port;
	return sizeof(tuple->ipv6);
}

static __always_inline void flow_of_socket(const struct socket_verdict *verdict, struct flow *flow)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	copy_address(flow->source, verdict->source);
	copy_address(flow->destination, verdict->destination);
	flow->source_port = verdict->source_port;
	flow->port = verdict->port;
	flow->protocol = IPPROTO_TCP;
}

static __always_inline void deny_socket(struct socket_verdict *verdict, __u8 reason)
{
	verdict->kind = EGRESS_SOCKET_DENIED;
	verdict->reason = reason;
}

/* An upstream socket of the proxy reaches what an http rule (or, for TLS, an https rule) of its pod covers, and
 * nothing else: so a proxy that is taken over gains nothing. What is not governed never comes to the proxy. */
static __always_inline void narrow_to_proxy(const struct socket_verdict *verdict, const struct pod_state *state,
                                            struct judgement *out)
{
	__u8 wanted = verdict->proxy == EGRESS_SOCKET_PROXY_TLS ? EGRESS_HTTPS : EGRESS_HTTP;

	if (state->open)
		return;
	if (!(out->protocols & wanted)) {
		out->kind = EGRESS_SOCKET_DENIED;
		out->reason = EGRESS_REASON_POLICY;
		return;
	}
	out->label = wanted;
	out->reason = EGRESS_REASON_RULE;
	out->kind =
		wanted == EGRESS_HTTPS && !(out->protocols & EGRESS_TCP) ? EGRESS_SOCKET_TLS : EGRESS_SOCKET_ALLOWED;
}

/* Whether what a live connection was judged by still holds under the rules of now. */
static __always_inline int still_allowed(struct socket_verdict *verdict, struct hello *hello, const struct governed *in,
                                         struct judgement *out)
{
	struct egress_config *config_value;
	struct flow flow;

	flow_of_socket(verdict, &flow);
	judge_connection(&flow, in->pod, in->state, out);
	if (out->reason == EGRESS_REASON_LIMIT) /* it counts already */
		out->kind = EGRESS_SOCKET_ALLOWED;
	if (verdict->proxy)
		narrow_to_proxy(verdict, in->state, out);
	if (out->kind == EGRESS_SOCKET_ALLOWED)
		return 1;
	if ((verdict->kind == EGRESS_SOCKET_TLS || hello) && (out->protocols & EGRESS_HTTPS)) {
		if (hello && hello->judged) {
			out->policy = judge_names(hello, out, in->state->generation);
			if (out->policy)
				return 1;
		} else if (verdict->kind == EGRESS_SOCKET_TLS) {
			return 1; /* its name is still to come */
		}
	}
	if (in->state->audit)
		return 1;
	config_value = get_config();
	return config_value && config_value->keep_connections;
}

/* Brings a live connection's verdict up to date. Returns 1 where this has just cut it. */
static __always_inline int judge_again(struct socket_verdict *verdict, struct hello *hello, const struct governed *in)
{
	struct judgement out;
	struct flow flow;

	if (verdict->generation == in->state->generation && verdict->cookie == in->cookie)
		return 0;
	verdict->generation = in->state->generation;
	if (verdict->kind != EGRESS_SOCKET_ALLOWED && verdict->kind != EGRESS_SOCKET_TLS)
		return 0;
	if (still_allowed(verdict, hello, in, &out)) {
		verdict->policy = out.policy ? out.policy : verdict->policy;
		return 0;
	}
	deny_socket(verdict, EGRESS_REASON_REVOKED);
	flow_of_socket(verdict, &flow);
	tell(&flow, in, out.label, EGRESS_DENY, EGRESS_REASON_REVOKED, verdict->policy, EGRESS_HOOK_CHANGE, NULL);
	return 1;
}

/* A verdict for `sk`, whatever it carried before. Marks of the proxy's own sockets stay. */
static __always_inline struct socket_verdict *fresh_verdict(struct bpf_sock *sk, const struct governed *in)
{
	struct socket_verdict *verdict = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	__u8 proxy, in_usage;

	if (!verdict)
		return NULL;
	proxy = verdict->proxy;
	in_usage = verdict->in_usage;
	__builtin_memset(verdict, 0, sizeof(*verdict));
	verdict->version = EGRESS_SOCKET_VERSION;
	verdict->proxy = proxy;
	verdict->in_usage = in_usage;
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

/* A verdict for a socket that calls connect(), within what the pod may have. NULL: it has them all already. */
static __always_inline struct socket_verdict *bounded_verdict(struct bpf_sock *sk, const struct governed *in)
{
	struct socket_verdict *verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	__u32 slot = in->pod->slot;
	struct usage *used;

	if (verdict)
		return fresh_verdict(sk, in);
	used = bpf_map_lookup_elem(&usage, &slot);
	if (!used || used->sockets >= EGRESS_MAX_SOCKETS)
		return NULL;
	verdict = fresh_verdict(sk, in);
	if (!verdict)
		return NULL;
	verdict->in_usage = 1;
	__sync_fetch_and_add(&used->sockets, 1);
	return verdict;
}

/* The program has closed the socket, or it is refused and keeps nothing. */
static __always_inline void release_verdict(struct socket_verdict *verdict)
{
	__u32 slot = verdict->slot;
	struct usage *used;

	if (!verdict->in_usage)
		return;
	verdict->in_usage = 0;
	used = bpf_map_lookup_elem(&usage, &slot);
	if (used && used->sockets)
		__sync_fetch_and_add(&used->sockets, -1);
}

#endif
