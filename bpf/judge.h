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
	__u32 rule_class;
	__u32 counted;  /* policy against whose limit an allowed connection counts */
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

/* What is not governed at all: the pod itself, the mesh, the exclusions. 0 if the flow is governed. */
static __always_inline __u8 ungoverned_reason(const struct flow *flow, const struct pod *pod, __u32 generation)
{
	__u32 flags;

	if (is_loopback(flow->destination) || is_own_address(pod, flow->destination))
		return EGRESS_REASON_MESH;
	flags = network_flags(flow->destination, generation);
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

/* The verdict on a TCP connection before any of its bytes is seen. Returns 0.
 * Not inlined, as all that follows here under __noinline: the verifier looks at a global function once, not once for
 * every path that leads to it. */
__noinline int judge_connection(const struct flow *flow, const struct pod *pod, const struct pod_state *state,
				struct judgement *out)
{
	struct rule_class *class;
	__u32 rule_class;

	if (!flow || !pod || !state || !out)
		return 0;
	__builtin_memset(out, 0, sizeof(*out));
	out->label = EGRESS_TCP;
	if (state->open) {
		out->kind = EGRESS_SOCKET_ALLOWED;
		out->reason = EGRESS_REASON_OPEN;
		return 0;
	}
	out->reason = ungoverned_reason(flow, pod, state->generation);
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
	out->rule_class = rule_class;
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
	} else if (class->protocols & EGRESS_HTTP) {
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

/* Why a datagram, or any other packet that is not TCP, may leave (enum egress_reason), apart from replies to what came
 * in; 0 if it may not. */
__noinline int judge_packet(const struct flow *flow, const struct pod *pod, const struct pod_state *state)
{
	struct egress_config *config_value;
	__u8 reason;

	if (!flow || !pod || !state)
		return 0;
	if (state->open)
		return EGRESS_REASON_OPEN;
	reason = ungoverned_reason(flow, pod, state->generation);
	if (state->unguarded && reason != EGRESS_REASON_MESH)
		return 0;
	if (reason)
		return reason;
	config_value = get_config();
	return config_value && config_value->other_protocols ? EGRESS_REASON_RULE : 0;
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

#endif
