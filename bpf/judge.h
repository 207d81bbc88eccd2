/* flow -> verdict, from the maps of rules. No contexts, no packets. */
#ifndef EGRESS_JUDGE_H
#define EGRESS_JUDGE_H

#include "rule_lookup.h"

/* What a decision says. Zero is a denial. */
struct judgement {
	__u8 kind;      /* enum egress_socket_kind: DENIED, ALLOWED, TLS or REDIRECTED */
	__u8 reason;    /* enum egress_reason */
	__u8 protocols; /* of the class that decided */
	__u8 label;     /* enum egress_protocol, for counters and events */
	__u32 policy;   /* that decided, 0 if none */
	__u32 counted;  /* policy against whose limit an allowed connection counts */
	/* Of each form of the destination: whose hosts must list the name. 0: no matter. */
	__u32 classes[EGRESS_MAX_FORMS];
};

/* What never leaves the pod. */
static __always_inline int is_pod_itself(const struct pod *pod, const __u8 address[16])
{
	return is_loopback(address) || is_own_address(pod, address);
}

/* What is not governed at all: the mesh, the exclusions, the name servers. 0 if the flow is governed. */
static __always_inline __u8 ungoverned_reason(const struct flow *flow, __u32 generation)
{
	__u32 flags = network_flags(flow->destination, generation);

	if (flags & EGRESS_NET_MESH)
		return EGRESS_REASON_MESH;
	if (flags & EGRESS_NET_EXCLUDED)
		return EGRESS_REASON_EXCLUDED;
	if ((flags & EGRESS_NET_DNS) && flow->port == bpf_htons(53) &&
	    (flow->protocol == IPPROTO_UDP || flow->protocol == IPPROTO_TCP))
		return EGRESS_REASON_DNS;
	if (flow->protocol == IPPROTO_TCP && is_excluded_port(flow->port, generation))
		return EGRESS_REASON_EXCLUDED;
	return 0;
}

/* The verdict on a TCP connection to one form of a destination. Returns 0.
 * Not inlined, as all that follows here under __noinline: the verifier looks at a global function once, not once for
 * every path that leads to it. */
__noinline int judge_form(const struct flow *flow, const struct pod *pod, const struct pod_state *state,
                          struct judgement *out)
{
	struct rule_class *class;
	__u32 rule_class;

	if (!flow || !pod || !state || !out)
		return 0;
	__builtin_memset(out, 0, sizeof(*out));
	out->label = EGRESS_TCP;
	out->reason = ungoverned_reason(flow, state->generation);
	if (out->reason && !(state->unguarded && out->reason != EGRESS_REASON_MESH)) {
		out->kind = EGRESS_SOCKET_ALLOWED;
		return 0;
	}
	out->reason = EGRESS_REASON_POLICY;
	if (state->unguarded)
		return 0;
	/* By way of the stack: Linux 6.1 takes no argument of a global function as a key. */
	rule_class = find_class(state->ruleset, state->generation, flow->destination, flow->port);
	class = bpf_map_lookup_elem(&classes, &rule_class);
	if (!class)
		return 0;
	out->protocols = class->protocols;
	if (class->protocols & EGRESS_TCP) {
		out->policy = class->tcp_policies[0];
		out->reason = EGRESS_REASON_RULE;
		if (!class->tcp_unlimited) {
			out->counted = policy_with_room(class, pod->slot);
			if (out->counted)
				out->policy = out->counted;
			else
				out->reason = EGRESS_REASON_LIMIT;
		}
		if (out->reason == EGRESS_REASON_RULE)
			out->kind = EGRESS_SOCKET_ALLOWED;
		return 0;
	}
	if (class->protocols & EGRESS_HTTPS)
		out->classes[0] = rule_class;
	if (class->protocols & EGRESS_HTTP) {
		out->kind = EGRESS_SOCKET_REDIRECTED;
		out->label = EGRESS_HTTP;
		out->reason = EGRESS_REASON_RULE;
		out->policy = class->http_policy;
	} else if (class->protocols & EGRESS_HTTPS) {
		out->kind = EGRESS_SOCKET_TLS;
		out->label = EGRESS_HTTPS;
		out->reason = EGRESS_REASON_RULE;
	}
	return 0;
}

/* What one form leaves open for the connection. Where any bytes may go to it, that is everything; but the proxy, which
 * knows rules and no networks, can pass nothing to a form that no rule covers. */
static __always_inline __u8 usable_protocols(const struct judgement *form)
{
	if (form->protocols & EGRESS_TCP)
		return form->protocols | EGRESS_HTTP | EGRESS_HTTPS;
	return form->kind == EGRESS_SOCKET_ALLOWED ? EGRESS_TCP | EGRESS_HTTPS : form->protocols;
}

/* `out`, on the forms so far, becomes the verdict that holds for `form` as well: what passes has to pass for each.
 * `usable`: what all of them leave open. */
static __always_inline void join_form(struct judgement *out, const struct judgement *form, __u8 usable)
{
	int by_rule = out->reason == EGRESS_REASON_RULE || form->reason == EGRESS_REASON_RULE;
	int full = out->reason == EGRESS_REASON_LIMIT || form->reason == EGRESS_REASON_LIMIT;

	if (!out->policy)
		out->policy = form->policy;
	if (!out->counted)
		out->counted = form->counted;
	if (usable & EGRESS_TCP && !by_rule && !full)
		return; /* neither is governed */
	out->protocols = usable;
	out->label = EGRESS_TCP;
	out->reason = EGRESS_REASON_RULE;
	if (usable & EGRESS_TCP) {
		out->kind = EGRESS_SOCKET_ALLOWED;
		if (full) {
			out->kind = EGRESS_SOCKET_DENIED;
			out->reason = EGRESS_REASON_LIMIT;
			out->counted = 0;
		}
		return;
	}
	out->counted = 0;
	if (usable & EGRESS_HTTP) {
		out->kind = EGRESS_SOCKET_REDIRECTED;
		out->label = EGRESS_HTTP;
	} else if (usable & EGRESS_HTTPS) {
		out->kind = EGRESS_SOCKET_TLS;
		out->label = EGRESS_HTTPS;
		out->policy = 0;
	} else {
		__builtin_memset(out, 0, sizeof(*out));
		out->label = EGRESS_TCP;
		out->reason = EGRESS_REASON_POLICY;
	}
}

/* `out`, on the destination as it stands, becomes that for the IPv4 addresses in it too. Returns 0. */
__noinline int judge_embedded(const struct flow *flow, const struct pod *pod, const struct pod_state *state,
                              struct judgement *out)
{
	struct judgement form;
	struct flow other;
	__u32 ip4[2] = {};
	__u8 usable;
	int count;

	if (!flow || !pod || !state || !out)
		return 0;
	other = *flow;
	count = embedded_ip4(flow->destination, ip4);
	if (!count)
		return 0;
	usable = usable_protocols(out);
	map_ip4(other.destination, ip4[0]);
	judge_form(&other, pod, state, &form);
	usable &= usable_protocols(&form);
	join_form(out, &form, usable);
	out->classes[1] = form.classes[0];
	if (count < 2)
		return 0;
	map_ip4(other.destination, ip4[1]);
	judge_form(&other, pod, state, &form);
	join_form(out, &form, usable & usable_protocols(&form));
	out->classes[2] = form.classes[0];
	return 0;
}

/* The verdict on a TCP connection before any of its bytes is seen. Returns 0. */
__noinline int judge_connection(const struct flow *flow, const struct pod *pod, const struct pod_state *state,
                                struct judgement *out)
{
	if (!flow || !pod || !state || !out)
		return 0;
	if (state->open || is_pod_itself(pod, flow->destination)) {
		__builtin_memset(out, 0, sizeof(*out));
		out->label = EGRESS_TCP;
		out->kind = EGRESS_SOCKET_ALLOWED;
		out->reason = state->open ? EGRESS_REASON_OPEN : EGRESS_REASON_MESH;
		return 0;
	}
	judge_form(flow, pod, state, out);
	if (may_embed_ip4(flow->destination))
		judge_embedded(flow, pod, state, out);
	return 0;
}

/* May the packet go to one form of its destination? */
static __always_inline __u8 packet_form_reason(const struct flow *flow, const struct pod_state *state)
{
	struct egress_config *config_value;
	__u8 reason = ungoverned_reason(flow, state->generation);

	if (state->unguarded && reason != EGRESS_REASON_MESH)
		return 0;
	if (reason)
		return reason;
	config_value = get_config();
	return config_value && config_value->other_protocols ? EGRESS_REASON_RULE : 0;
}

/* Why a datagram, or any other packet that is not TCP, may leave (enum egress_reason), apart from replies to what came
 * in; 0 if it may not. */
__noinline int judge_packet(const struct flow *flow, const struct pod *pod, const struct pod_state *state)
{
	__u32 ip4[2] = {};
	struct flow other;
	__u8 reason, form;
	int count;

	if (!flow || !pod || !state)
		return 0;
	if (state->open)
		return EGRESS_REASON_OPEN;
	if (is_pod_itself(pod, flow->destination))
		return EGRESS_REASON_MESH;
	reason = packet_form_reason(flow, state);
	if (!reason || !may_embed_ip4(flow->destination))
		return reason;
	other = *flow;
	count = embedded_ip4(flow->destination, ip4);
	for (int i = 0; i < 2; i++) {
		if (i >= count)
			break;
		map_ip4(other.destination, ip4[i]);
		form = packet_form_reason(&other, state);
		if (!form)
			return 0;
		if (form == EGRESS_REASON_RULE)
			reason = form;
	}
	return reason;
}

/* Is this address of the mesh or of an excluded range? */
static __always_inline int is_ungoverned_address(const __u8 address[16], const struct pod_state *state)
{
	__u32 flags = network_flags(address, state->generation);

	return flags & EGRESS_NET_MESH || (flags & EGRESS_NET_EXCLUDED && !state->unguarded);
}

/* Is a frame to this address, in each of its forms, held to its source alone? */
__noinline int is_ungoverned(const struct flow *flow, const struct pod_state *state)
{
	__u32 ip4[2] = {};
	__u8 other[16];
	int count;

	if (!flow || !state || !is_ungoverned_address(flow->destination, state))
		return 0;
	if (!may_embed_ip4(flow->destination))
		return 1;
	count = embedded_ip4(flow->destination, ip4);
	for (int i = 0; i < 2; i++) {
		if (i >= count)
			break;
		map_ip4(other, ip4[i]);
		if (!is_ungoverned_address(other, state))
			return 0;
	}
	return 1;
}

#endif
