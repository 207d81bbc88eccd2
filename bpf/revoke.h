/* After a change, and once in a while: every live connection of the node is judged again, also those that send
 * nothing, and a ClientHello that its program never completes comes to its end. An iterator over the sockets'
 * storage, or, where the kernel does not let one see values that it could write (some do not under lockdown), over the
 * TCP sockets of one network namespace; user space reads one struct revoked per connection to destroy. */
#ifndef EGRESS_REVOKE_H
#define EGRESS_REVOKE_H

#include "socket.h"

/* Of the kernel's types only what is read here; offsets are relocated (CO-RE). */
struct sock_common {
	unsigned short skc_family;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
} __attribute__((preserve_access_index));

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} __attribute__((preserve_access_index));

/* A ClientHello that began and is not complete after EGRESS_HELLO_SECONDS. Returns 1 where this has just cut it. */
static __always_inline int cut_slow_hello(struct socket_verdict *verdict, const struct hello *hello,
                                          const struct governed *in)
{
	struct flow flow;

	if (verdict->kind != EGRESS_SOCKET_TLS || !hello || !hello->started_ns || hello->step >= HELLO_DONE ||
	    bpf_ktime_get_ns() - hello->started_ns < EGRESS_HELLO_SECONDS * 1000000000ULL || in->state->audit)
		return 0;
	deny_socket(verdict, EGRESS_REASON_NOT_TLS);
	flow_of_socket(verdict, &flow);
	tell(&flow, in, EGRESS_HTTPS, EGRESS_DENY, EGRESS_REASON_NOT_TLS, 0, EGRESS_HOOK_BOUNDARY, hello);
	return 1;
}

/* Judges a socket again. Returns 1 and fills `record`, but for the family, where it is to be destroyed. */
static __always_inline int revoke_socket(void *sk, struct socket_verdict *verdict, struct revoked *record)
{
	struct governed in;
	struct hello *hello;
	__u8 kind;

	if (!find_pod(verdict->cookie, &in))
		return 0;
	kind = verdict->kind;
	if (kind != EGRESS_SOCKET_ALLOWED && kind != EGRESS_SOCKET_TLS)
		return 0;
	hello = bpf_sk_storage_get(&hellos, sk, NULL, 0);
	if (!judge_again(verdict, hello, &in) && !cut_slow_hello(verdict, hello, &in))
		return 0;
	record->cookie = verdict->cookie;
	record->socket_cookie = bpf_get_socket_cookie(sk);
	record->source_port = verdict->source_port;
	record->port = verdict->port;
	copy_address(record->source, verdict->source);
	copy_address(record->destination, verdict->destination);
	return 1;
}

SEC("iter/bpf_sk_storage_map")
int revoke(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct socket_verdict *verdict = ctx->value; /* read once: what is checked is what is used */
	struct sock *sk = ctx->sk;
	struct revoked record = {};

	if (!sk || !verdict || !revoke_socket(sk, verdict, &record))
		return 0;
	record.family = sk->__sk_common.skc_family;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

SEC("iter/tcp")
int revoke_in_netns(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct socket_verdict *verdict;
	struct revoked record = {};
	struct tcp_sock *sk;

	if (!common)
		return 0;
	sk = bpf_skc_to_tcp_sock(common);
	if (!sk)
		return 0;
	verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!verdict || !revoke_socket(sk, verdict, &record))
		return 0;
	record.family = common->skc_family;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

#endif
