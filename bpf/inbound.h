/* What came in over a pod's interface: only that may be answered. One bounded LRU a pod. */
#ifndef EGRESS_INBOUND_H
#define EGRESS_INBOUND_H

#include "packet.h"
#include "socket.h"

static __always_inline struct inbound *find_inbound(const struct flow *flow, __u64 cookie)
{
	struct inbound_key key = {
		.local_port = flow->source_port,
		.remote_port = flow->port,
		.protocol = flow->protocol,
	};
	void *records = bpf_map_lookup_elem(&inbound, &cookie);

	if (!records)
		return NULL;
	copy_address(key.local, flow->source);
	copy_address(key.remote, flow->destination);
	return bpf_map_lookup_elem(records, &key);
}

static __always_inline int is_recent(const struct inbound *record)
{
	return bpf_ktime_get_ns() - record->seen_ns < EGRESS_INBOUND_SECONDS * 1000000000ULL;
}

/* Did a datagram of this flow come in within the last seconds? Then the pod may answer. */
static __always_inline int answers_inbound(const struct flow *flow, __u64 cookie)
{
	struct inbound *record = find_inbound(flow, cookie);

	return record && !record->opened_here && is_recent(record);
}

/* ... be it as an answer to what the pod began: then its kernel may still have to say that nobody wants it. */
static __always_inline int came_in_lately(const struct flow *flow, __u64 cookie)
{
	struct inbound *record = find_inbound(flow, cookie);

	return record && is_recent(record);
}

/* The pod speaks first on a flow: what comes back is an answer and opens nothing. */
static __always_inline void note_opened_here(const struct flow *flow, __u64 cookie)
{
	struct inbound_key key = {
		.local_port = flow->source_port,
		.remote_port = flow->port,
		.protocol = flow->protocol,
	};
	struct inbound record = { .opened_here = 1 };
	void *records = bpf_map_lookup_elem(&inbound, &cookie);

	if (!records)
		return;
	copy_address(key.local, flow->source);
	copy_address(key.remote, flow->destination);
	record.seen_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(records, &key, &record, BPF_ANY);
}

static __always_inline void record_inbound(const struct packet *packet, __u64 cookie)
{
	const struct flow *flow = &packet->flow;
	struct inbound_key key = {
		.local_port = flow->port,
		.remote_port = flow->source_port,
		.protocol = flow->protocol,
	};
	struct inbound *known, record = { .sequence = packet->sequence };
	void *records = bpf_map_lookup_elem(&inbound, &cookie);

	if (!records)
		return;
	copy_address(key.local, flow->destination);
	copy_address(key.remote, flow->source);
	record.seen_ns = bpf_ktime_get_ns();
	known = bpf_map_lookup_elem(records, &key);
	/* An answer to what the pod began stays an answer, for as long as the exchange goes on. */
	if (known && known->opened_here && is_recent(known)) {
		known->seen_ns = record.seen_ns;
		return;
	}
	bpf_map_update_elem(records, &key, &record, BPF_ANY);
}

static __always_inline void store_inbound(struct bpf_sock *sk, const struct flow *flow, const struct governed *in)
{
	struct socket_verdict *verdict = fresh_verdict(sk, in);

	if (!verdict)
		return;
	verdict->kind = EGRESS_SOCKET_INBOUND;
	verdict->reason = EGRESS_REASON_INBOUND;
	verdict->once_allowed = 1;
	copy_address(verdict->source, flow->source);
	copy_address(verdict->destination, flow->destination);
	verdict->source_port = flow->source_port;
	verdict->port = flow->port;
}

#endif
