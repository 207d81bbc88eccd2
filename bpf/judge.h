/* flow -> verdict, from the maps of rules. No contexts, no packets. */
#ifndef EGRESS_JUDGE_H
#define EGRESS_JUDGE_H

#include "flow.h"
#include "hash.h"
#include "maps.h"

/* What a decision says. Zero is a denial. */
struct judgement {
	__u8 kind;      /* enum egress_socket_kind: DENIED, ALLOWED, TLS or REDIRECTED */
	__u8 reason;    /* enum egress_reason */
	__u8 protocols; /* of the class that decided */
	__u8 label;     /* enum egress_protocol, for counters and events */
	__u32 policy;   /* that decided, 0 if none */
	__u32 counted;  /* policy against whose limit an allowed connection counts */
	__u32 classes[EGRESS_MAX_FORMS]; /* of each form of the destination: whose hosts must list the name; 0: no matter */
};

static __always_inline struct egress_config *get_config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

/* The value of an entry that a pod of generation `at` sees; see egress.h. */
static __always_inline __u32 in_force(__u32 generation, __u32 now, __u32 next, __u32 at)
{
	return at >= generation ? next : now;
}

static __always_inline __u32 network_flags(const __u8 address[16], __u32 generation)
{
	struct network_key key = {
		.prefixlen = EGRESS_NETWORK_KEY_FAMILY + 128,
		.family = bpf_htons(is_ip4(address) ? 4 : 6),
	};
	struct network *network;

	copy_address(key.addr, address);
	network = bpf_map_lookup_elem(&networks, &key);
	return network ? in_force(network->generation, network->now, network->next, generation) : 0;
}

static __always_inline int is_excluded_port(__be16 port, __u32 generation)
{
	struct egress_config *config_value = get_config();
	struct network *entry;

	if (!config_value || !config_value->port_exclusions)
		return 0;
	entry = bpf_map_lookup_elem(&ports, &port);
	return entry && in_force(entry->generation, entry->now, entry->next, generation);
}

/* Id of the class of rules that covers a TCP destination, 0 if none does. */
static __always_inline __u32 find_class(__u32 ruleset, __u32 generation, const __u8 address[16], __be16 port)
{
	struct rule_key key = {
		.prefixlen = EGRESS_RULE_KEY_FAMILY + 128,
		.ruleset = bpf_htonl(ruleset),
		.port = port,
		.family = bpf_htons(is_ip4(address) ? 4 : 6),
	};
	struct rule *rule;

	copy_address(key.addr, address);
	rule = bpf_map_lookup_elem(&rules, &key);
	return rule ? in_force(rule->generation, rule->now, rule->next, generation) : 0;
}

/* Of the tcp policies of a class, one whose limit leaves room: its id, or 0 if all are full. */
static __always_inline __u32 policy_with_room(const struct rule_class *class, __u32 slot)
{
	for (int i = 0; i < EGRESS_MAX_TCP_POLICIES; i++) {
		struct connection_key key = { .slot = slot, .policy = class->tcp_policies[i] };
		struct policy *policy;
		__u32 *count;

		if (i >= class->tcp_count)
			break;
		policy = bpf_map_lookup_elem(&policies, &key.policy);
		if (!policy)
			continue;
		count = bpf_map_lookup_elem(&connections, &key);
		if (!policy->limited || (count ? *count : 0) < policy->max_connections)
			return key.policy;
	}
	return 0;
}

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

/* ---- Names ---- */

struct name_search {
	struct egress_hash hash;
	struct hello *hello;
	struct rule_class *class;
	struct host *host;  /* candidate, while it is being compared */
	__u32 at;           /* position in the name */
	__u32 generation;
	__u32 different;
	__u32 policy;       /* found */
};

static long compare_name(__u32 i, void *context)
{
	struct name_search *search = context;
	__u32 mask = EGRESS_MAX_NAME - 1; /* for the verifier; at + i is within the name */

	if (search->hello->name[(search->at + i) & mask] != search->host->name[i & mask]) {
		search->different = 1;
		return 1;
	}
	return 0;
}

/* Is what the name has from `search->at` on listed in group `i` of the class? */
static long look_up_group(__u32 i, void *context)
{
	struct name_search *search = context;
	struct host_key key = { .hash = egress_hash_value(&search->hash) };
	__u32 length = search->hello->name_length - search->at;
	__u32 policy;

	if (i >= search->class->group_count)
		return 1;
	key.group = search->class->groups[i & (EGRESS_MAX_GROUPS - 1)]; /* for the verifier, as in compare_name() */
	search->host = bpf_map_lookup_elem(&hosts, &key);
	if (!search->host || search->host->length != length)
		return 0;
	policy = in_force(search->host->generation, search->host->now, search->host->next, search->generation);
	if (!policy)
		return 0;
	search->different = 0;
	bpf_loop(length & (EGRESS_MAX_NAME - 1), compare_name, search, 0);
	if (search->different)
		return 0;
	search->policy = policy;
	return 1;
}

/* One character from the end; at every dot, and at the beginning, the suffix is looked up. */
static long hash_name(__u32 i, void *context)
{
	struct name_search *search = context;
	__u32 at = search->hello->name_length - 1 - i;
	char c;

	if (at >= EGRESS_MAX_NAME)
		return 1;
	c = search->hello->name[at];
	egress_hash_add(&search->hash, c);
	search->at = at;
	if (at == 0 || c == '.')
		bpf_loop(EGRESS_MAX_GROUPS, look_up_group, search, 0); /* Linux 6.12 loses count of a `for` around bpf_loop() */
	return search->policy != 0;
}

/* The policy under which a class lists the name of a ClientHello, 0 if none does. */
__noinline __u32 judge_name(struct hello *hello, __u32 rule_class, __u32 generation)
{
	struct egress_config *config_value = get_config();
	struct name_search search = {
		.hello = hello,
		.class = bpf_map_lookup_elem(&classes, &rule_class),
		.generation = generation,
	};

	if (!hello || !search.class || !config_value || !hello->name_length || hello->name_length >= EGRESS_MAX_NAME)
		return 0;
	if (!(search.class->protocols & EGRESS_HTTPS))
		return 0;
	egress_hash_start(&search.hash, config_value->hash_key);
	bpf_loop(hello->name_length, hash_name, &search, 0);
	return search.policy;
}

/* The policy under which the name is listed for every form of the destination that asks for one; 0 if for one it is
 * not. */
static __always_inline __u32 judge_names(struct hello *hello, const struct judgement *out, __u32 generation)
{
	__u32 policy = 0;

	for (int i = 0; i < EGRESS_MAX_FORMS; i++) {
		__u32 found;

		if (!out->classes[i])
			continue;
		found = judge_name(hello, out->classes[i], generation);
		if (!found)
			return 0;
		if (!policy)
			policy = found;
	}
	return policy;
}

#endif
