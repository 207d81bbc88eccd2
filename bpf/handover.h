/* Where a connection on its way to the proxy wanted to go: kept from its SYN until the proxy's side is established. */
#ifndef EGRESS_HANDOVER_H
#define EGRESS_HANDOVER_H

#include "socket.h"

static __always_inline void handover_key_of(const struct socket_verdict *verdict, struct handover_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->cookie = verdict->cookie;
	key->port = verdict->source_port;
	copy_address(key->addr, verdict->source);
}

/* The table is everybody's. Where SYNs do not arrive at the proxy, because the pod drops them, each of its sockets would
 * hold an entry, and it may have half as many sockets as there are entries. */
static __always_inline int has_handover_room(__u32 slot)
{
	struct usage *used = bpf_map_lookup_elem(&usage, &slot);

	return used && used->handovers < EGRESS_MAX_HANDOVERS;
}

/* The entry of a redirected socket. Returns whether there is one; it goes with its socket at the latest. Without one the
 * proxy resets the connection. */
static __always_inline int begin_handover(const struct socket_verdict *verdict)
{
	__u32 slot = verdict->slot;
	struct usage *used = bpf_map_lookup_elem(&usage, &slot);
	struct handover_key key;
	struct handover value = {};

	if (!used)
		return 0;
	handover_key_of(verdict, &key);
	copy_address(value.addr, verdict->original);
	value.port = verdict->original_port;
	value.protocols = verdict->protocols & (EGRESS_HTTP | EGRESS_HTTPS);
	value.generation = verdict->generation;
	value.policy = verdict->policy;
	if (__sync_fetch_and_add(&used->handovers, 1) < EGRESS_MAX_HANDOVERS &&
	    !bpf_map_update_elem(&handover, &key, &value, BPF_NOEXIST))
		return 1;
	__sync_fetch_and_add(&used->handovers, -1);
	return !bpf_map_update_elem(&handover, &key, &value, BPF_EXIST); /* one that was left behind counts already */
}

static __always_inline void end_handover(const struct handover_key *key, __u32 slot)
{
	struct usage *used;

	if (bpf_map_delete_elem(&handover, key))
		return;
	used = bpf_map_lookup_elem(&usage, &slot);
	if (used && used->handovers)
		__sync_fetch_and_add(&used->handovers, -1);
}

/* A connection that the proxy accepts: the child socket learns where its client wanted to go. */
static __always_inline void hand_over(struct bpf_sock *sk, const struct flow *flow, const struct governed *in)
{
	struct handover_key key = { .cookie = in->cookie, .port = flow->port };
	struct socket_verdict *verdict;
	struct handover *value;

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
	end_handover(&key, in->pod->slot);
}

/* A redirected socket that has closed. */
static __always_inline void forget_handover(const struct socket_verdict *verdict)
{
	struct handover_key key;

	handover_key_of(verdict, &key);
	end_handover(&key, verdict->slot);
}

#endif
