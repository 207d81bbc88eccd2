/* The rules and networks in force for a pod of one generation, found in their maps. */
#ifndef EGRESS_RULE_LOOKUP_H
#define EGRESS_RULE_LOOKUP_H

#include "flow.h"
#include "maps.h"

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

#endif
