/* Name of a ClientHello -> the policy that lists it. Suffixes are looked up by their hash, and compared then. */
#ifndef EGRESS_JUDGE_NAME_H
#define EGRESS_JUDGE_NAME_H

#include "hash.h"
#include "judge.h"

struct name_search {
	struct egress_hash hash;
	struct hello *hello;
	struct rule_class *class;
	struct host *host; /* candidate, while it is being compared */
	__u32 at;          /* position in the name */
	__u32 generation;
	__u32 different;
	__u32 policy; /* found */
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
	if (at == 0 || c == '.') /* Linux 6.12 loses count of a `for` around bpf_loop() */
		bpf_loop(EGRESS_MAX_GROUPS, look_up_group, search, 0);
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
