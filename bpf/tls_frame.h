/* https at the boundary: the ClientHello is read on the bytes that leave. */
#ifndef EGRESS_TLS_FRAME_H
#define EGRESS_TLS_FRAME_H

#include "frame.h"
#include "hello_memory.h"

static __always_inline int hello_load(void *skb, __u32 offset, void *to, __u32 length)
{
	return bpf_skb_load_bytes(skb, offset, to, length);
}
#define HELLO_LOAD hello_load

#include "second_hello.h"

/* Reads what is new of the stream. Returns 0 to go on, else the reason to refuse. */
__noinline int read_hello(struct __sk_buff *skb, const struct packet *packet, struct hello *hello)
{
	__u32 length, skip;
	struct hello_input input = { .source = skb, .hello = hello };
	__u64 now = bpf_ktime_get_ns();

	if (!packet || !hello)
		return EGRESS_REASON_NOT_TLS;
	length = packet->end - packet->payload;
	skip = hello->next_sequence - packet->sequence - !!(packet->flags & TCP_SYN);
	input.offset = packet->payload + skip;
	input.left = length - skip;
	if (packet->flags & TCP_URG)
		return EGRESS_REASON_NOT_TLS; /* urgent data is in our stream but not in what a server reads */
	if (!hello->started_ns)
		hello->started_ns = now;
	if (now - hello->started_ns > EGRESS_HELLO_SECONDS * 1000000000ULL)
		return EGRESS_REASON_NOT_TLS;
	bpf_loop(HELLO_TURNS, hello_turn, &input, 0);
	hello->bytes += length - skip - input.left;
	hello->next_sequence += length - skip - input.left;
	if (hello->step == HELLO_REFUSED || !input.done)
		return hello->names ? EGRESS_REASON_NO_SNI : EGRESS_REASON_NOT_TLS;
	if (hello->step == HELLO_DONE && !hello->names)
		return EGRESS_REASON_NO_SNI;
	return 0;
}

/* The name is judged once it is complete, and again when the rules have changed. */
static __always_inline __u8 judge_hello(struct hello *hello, struct socket_verdict *verdict, const struct governed *in)
{
	struct judgement out;
	struct flow flow;

	if (hello->judged || hello->step == HELLO_NAME || !hello->name_length)
		return 0;
	flow_of_socket(verdict, &flow);
	judge_connection(&flow, in->pod, in->state, &out);
	/* Else any bytes may go there now. */
	if (out.kind != EGRESS_SOCKET_ALLOWED && out.reason != EGRESS_REASON_LIMIT) {
		out.policy = judge_names(hello, &out, in->state->generation);
		if (!out.policy)
			return EGRESS_REASON_SNI_MISMATCH;
	}
	verdict->policy = out.policy;
	hello->judged = 1;
	return 0;
}

/* `told`: the hello whose name is told. */
static __always_inline int refuse_tls(struct __sk_buff *skb, struct boundary *b, struct socket_verdict *verdict,
                                      struct hello *hello, const struct hello *told, __u8 reason)
{
	verdict->kind = b->in.state->audit ? EGRESS_SOCKET_ALLOWED : EGRESS_SOCKET_DENIED;
	verdict->reason = reason;
	forget_hello(hello, b->in.pod->slot);
	return refuse_frame(skb, b, EGRESS_HTTPS, reason, 0, RESET_BOTH, told);
}

/* What is new of the stream behind the ClientHello, as long as a second one may follow. */
static __always_inline __u8 read_behind(struct __sk_buff *skb, const struct packet *packet, struct hello *hello,
                                        struct bpf_sock *sk, __u32 *wait)
{
	__u32 skip = hello->next_sequence - packet->sequence - !!(packet->flags & TCP_SYN);
	struct record_bytes bytes = {};
	struct hello *second = NULL;
	__u8 reason;

	bytes.offset = packet->payload + skip;
	bytes.left = packet->end - bytes.offset;
	if (packet->flags & TCP_URG)
		return EGRESS_REASON_NOT_TLS;
	if (hello->answer == HELLO_RETRY) {
		second = bpf_sk_storage_get(&second_hellos, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!second)
			return EGRESS_REASON_TABLE_FULL;
	}
	if (hello->bytes + bytes.left > EGRESS_HELLO_STREAM) { /* more than can be kept */
		*wait = 1;
		return second ? EGRESS_REASON_NOT_TLS : 0;
	}
	reason = read_records(skb, hello, second, &bytes);
	skip = packet->end - packet->payload - skip - bytes.left; /* read */
	hello->bytes += skip;
	hello->next_sequence += skip;
	*wait = bytes.wait;
	return reason;
}

static __always_inline void note_begin(struct __sk_buff *skb, struct hello *hello, __u32 sequence)
{
	hello->next_sequence = sequence;
	hello->begin_sequence = sequence;
	hello->socket = bpf_get_socket_cookie(skb);
	hello->started = 1;
	hello->version = HELLO_VERSION;
}

static __always_inline int pass_tls(struct __sk_buff *skb, struct boundary *b, struct socket_verdict *verdict,
                                    struct hello *hello, struct bpf_sock *sk)
{
	struct packet *packet = &b->packet;
	__u32 length = packet->end - packet->payload;
	__u32 begins = packet->sequence + !!(packet->flags & TCP_SYN);
	struct hello_part part = { .slot = b->in.pod->slot };
	__u32 known = hello->bytes, wait = 0, at;
	__u8 reason = 0, done = hello->step == HELLO_DONE;

	if (packet->flags & TCP_SYN && !hello->bytes)
		note_begin(skb, hello, begins);
	if (!length)
		return PASS;
	if (!hello->started)
		return b->in.state->audit ? PASS : DROP;
	if ((!done || awaits_second(hello)) && (__s32)(begins - hello->next_sequence) > 0)
		return DROP; /* runs ahead of what has been read; TCP sends it again */
	at = begins - hello->begin_sequence;
	if ((__s32)at < 0)
		return DROP; /* before the stream begins: nothing that a TCP sends */
	if (at < known) {    /* sent again, at least in part: it has to be what was judged */
		part.offset = packet->payload;
		part.at = at;
		part.length = known - at < length ? known - at : length;
		if (!same_hello(skb, hello, &part))
			return refuse_tls(skb, b, verdict, hello, hello, EGRESS_REASON_NOT_TLS);
	}
	if ((__s32)(begins + length - hello->next_sequence) <= 0)
		return PASS;
	if (!done) {
		reason = read_hello(skb, packet, hello);
		if (!reason)
			reason = judge_hello(hello, verdict, &b->in);
	}
	if (!reason && hello->step == HELLO_DONE && awaits_second(hello) &&
	    (__s32)(begins + length - hello->next_sequence) > 0)
		reason = read_behind(skb, packet, hello, sk, &wait);
	if (!reason && hello->bytes > EGRESS_HELLO_STREAM)
		reason = EGRESS_REASON_NOT_TLS;
	part.offset = packet->payload + known - at;
	part.at = known;
	part.length = hello->bytes - known;
	if (!reason && !keep_hello(skb, hello, &part))
		reason = EGRESS_REASON_TABLE_FULL;
	if (reason) {
		const struct hello *second = done ? bpf_sk_storage_get(&second_hellos, sk, NULL, 0) : NULL;

		return refuse_tls(skb, b, verdict, hello, second ? second : hello, reason);
	}
	if (!done && hello->step == HELLO_DONE) {
		await_acknowledgement(hello, b->in.pod->slot);
		tell(&packet->flow, &b->in, EGRESS_HTTPS, EGRESS_ALLOW, EGRESS_REASON_RULE, verdict->policy,
		     EGRESS_HOOK_BOUNDARY, hello);
	}
	return wait ? DROP : PASS;
}

/* Two CPUs can carry segments of one connection: the second drops its own, and TCP sends it again. */
static __always_inline int tls_frame(struct __sk_buff *skb, struct boundary *b, struct socket_verdict *verdict,
                                     struct bpf_sock *sk)
{
	struct hello *hello = bpf_sk_storage_get(&hellos, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	int action;

	if (!hello)
		return refuse_frame(skb, b, EGRESS_HTTPS, EGRESS_REASON_TABLE_FULL, 0, RESET_POD, NULL);
	if (__sync_val_compare_and_swap(&hello->busy, 0, 1))
		return DROP;
	action = pass_tls(skb, b, verdict, hello, sk);
	*(volatile __u32 *)&hello->busy = 0;
	return action;
}

#endif
