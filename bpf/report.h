/* Counters and events: what was decided, told to user space. Never decides anything. */
#ifndef EGRESS_REPORT_H
#define EGRESS_REPORT_H

#include "flow.h"
#include "maps.h"

#define EVENTS_PER_SECOND 200    /* of one pod; what is beyond is counted as lost */
#define SAMPLE_NS 10000000000ULL /* an allowed connection of one pod, policy and port is told this often */

static __always_inline void count(__u32 slot, __u8 protocol, __u8 verdict, __u8 reason)
{
	struct stat_key key = { .slot = slot, .protocol = protocol, .verdict = verdict, .reason = reason };
	__u64 one = 1, *value = bpf_map_lookup_elem(&stats, &key);

	if (value)
		*value += 1;
	else
		bpf_map_update_elem(&stats, &key, &one, BPF_NOEXIST);
}

static __always_inline void lose_event(void)
{
	__u32 zero = 0;
	__u64 *lost = bpf_map_lookup_elem(&events_lost, &zero);

	if (lost)
		*lost += 1;
}

/* Refusals up to a rate; of what is allowed the first of its kind, then samples. */
static __always_inline int worth_telling(const struct flow *flow, __u32 slot, __u8 protocol, __u8 verdict, __u8 reason,
                                         __u32 policy)
{
	__u64 now = bpf_ktime_get_ns();
	struct event_budget *budget;

	if (verdict == EGRESS_ALLOW) {
		struct sample_key key = {
			.slot = slot,
			.policy = policy,
			.reason = reason,
			.port = flow->port,
			.protocol = protocol,
		};
		__u64 *last = bpf_map_lookup_elem(&samples, &key);

		if (last && now - *last < SAMPLE_NS)
			return 0;
		bpf_map_update_elem(&samples, &key, &now, BPF_ANY);
		return 1;
	}
	budget = bpf_map_lookup_elem(&budgets, &slot);
	if (!budget)
		return 0;
	if (budget->window != now >> 30) {
		budget->window = now >> 30;
		budget->count = 0;
	}
	if (budget->count >= EVENTS_PER_SECOND) {
		lose_event();
		return 0;
	}
	budget->count++;
	return 1;
}

/* Before the kernel has chosen a source it will be, for a socket that is bound to none, the pod's own address of the
 * destination's family. */
static __always_inline void expect_source(struct event *event)
{
	__u64 cookie = event->cookie; /* Linux 6.1 takes no key from the memory of a ring buffer */
	struct pod *pod = bpf_map_lookup_elem(&pods, &cookie);

	if (!pod)
		return;
	for (int i = 0; i < EGRESS_MAX_POD_ADDRESSES; i++) {
		const __u8 *address = pod->addresses[i];

		if (i >= pod->address_count)
			break;
		if (is_ip4(address) != is_ip4(event->destination) || is_link_local(address))
			continue;
		copy_address(event->source, address);
		break;
	}
}

/* A decision, as it is told. */
struct decision {
	__u64 cookie; /* of the pod's netns */
	__u32 slot;
	__u32 policy;
	__u8 protocol; /* enum egress_protocol */
	__u8 verdict;
	__u8 reason;
	__u8 hook;
	__u32 pad;
};

/* Counts a decision and, where it is worth it, tells it. `hello` may be NULL. Returns 0. */
__noinline int report(const struct flow *flow, const struct decision *decision, const struct hello *hello)
{
	struct event *event;

	if (!flow || !decision)
		return 0;
	count(decision->slot, decision->protocol, decision->verdict, decision->reason);
	if (!worth_telling(flow, decision->slot, decision->protocol, decision->verdict, decision->reason,
	                   decision->policy))
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		lose_event();
		return 0;
	}
	event->time_ns = bpf_ktime_get_boot_ns();
	event->cookie = decision->cookie;
	event->slot = decision->slot;
	event->policy = decision->policy;
	event->verdict = decision->verdict;
	event->reason = decision->reason;
	event->protocol = decision->protocol;
	event->hook = decision->hook;
	event->source_port = flow->source_port;
	event->port = flow->port;
	copy_address(event->source, flow->source);
	copy_address(event->destination, flow->destination);
	if ((decision->hook == EGRESS_HOOK_CONNECT || decision->hook == EGRESS_HOOK_SEND) && is_loopback(event->source))
		expect_source(event);
	if (hello)
		__builtin_memcpy(event->sni, hello->name, sizeof(event->sni));
	else
		event->sni[0] = 0;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif
