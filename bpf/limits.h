/* What an UpstreamTrafficSetting bounds in the kernel: live connections, and the time of the handshake. */
#ifndef EGRESS_LIMITS_H
#define EGRESS_LIMITS_H

#include "socket.h"

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
	struct egress_config *config_value = get_config();
	struct policy *policy;
	int own = 0, timeout;

	if (!config_value || !config_value->connect_timeouts)
		return;
	policy = bpf_map_lookup_elem(&policies, &verdict->policy);
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

#endif
