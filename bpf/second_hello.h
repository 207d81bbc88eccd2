/* What follows a ClientHello until its server has answered: a HelloRetryRequest asks for a second one (RFC 8446, 4.1.2),
 * whose name a server may go by. So as long as the answer is not known, no handshake record leaves; when a second hello
 * has been asked for, the next handshake record has to be one, with the name of the first. Other records (the
 * change_cipher_spec of D.4, early data, whatever) pass; all are read, so that the next one is found. */
#ifndef EGRESS_SECOND_HELLO_H
#define EGRESS_SECOND_HELLO_H

#include "hello.h"
#include "hello_memory.h"

struct record_walk {
	void *skb;
	struct hello *hello; /* the first; its parser is done, and its fields say where in a record the stream stands */
	__u32 offset;
	__u32 left;
	__u32 stopped; /* at a handshake record */
	__u32 refused;
};

static __always_inline long refuse_record(struct record_walk *walk)
{
	walk->refused = 1;
	return 1;
}

/* One turn: a byte of a record's header, or as much of a record as is there. */
static long skip_record(__u32 turn, void *context)
{
	struct record_walk *walk = context;
	struct hello *hello = walk->hello;
	__u32 take;
	__u8 byte;

	(void)turn;
	if (!walk->left)
		return 1;
	if (hello->record_left && !hello->header_have) {
		take = walk->left < hello->record_left ? walk->left : hello->record_left;
		hello->record_left -= take;
		walk->offset += take;
		walk->left -= take;
		return 0;
	}
	if (bpf_skb_load_bytes(walk->skb, walk->offset, &byte, 1))
		return refuse_record(walk);
	if (!hello->header_have && byte == RECORD_HANDSHAKE) {
		walk->stopped = 1;
		return 1;
	}
	walk->offset++;
	walk->left--;
	/* Type and version are not looked at: a server ends the connection over one that it does not know, or skips it. */
	hello_count_record_byte(hello, byte);
	return 0;
}

static __always_inline int same_name(const struct hello *a, const struct hello *b)
{
	const __u64 *x = (const __u64 *)a->name, *y = (const __u64 *)b->name;
	__u64 different = a->name_length ^ b->name_length;

	for (int i = 0; i < EGRESS_MAX_NAME / 8; i++)
		different |= x[i] ^ y[i];
	return !different;
}

/* Reads the next bytes of the second hello: `input`, at a place in the frame. Returns 0 to go on, else the reason to
 * refuse. */
static __always_inline __u8 read_second(struct hello_input *input, struct hello *first)
{
	struct hello *second = input->hello;
	__u64 now = bpf_ktime_get_ns();

	if (!second->started_ns)
		second->started_ns = now;
	if (now - second->started_ns > EGRESS_HELLO_SECONDS * 1000000000ULL)
		return EGRESS_REASON_NOT_TLS;
	bpf_loop(HELLO_TURNS, hello_turn, input, 0);
	if (second->step == HELLO_REFUSED || !input->done)
		return second->names ? EGRESS_REASON_NO_SNI : EGRESS_REASON_NOT_TLS;
	if (second->step == HELLO_DONE && !second->names)
		return EGRESS_REASON_NO_SNI;
	if (!first->second_judged && second->step != HELLO_NAME && second->name_length) {
		if (!same_name(first, second))
			return EGRESS_REASON_SNI_MISMATCH;
		first->second_judged = 1;
	}
	first->second_done = second->step == HELLO_DONE;
	return 0;
}

/* What of a frame's stream is read, and whether the frame has to wait. */
struct record_bytes {
	__u32 offset;
	__u32 left; /* afterwards: not read */
	__u32 wait; /* for the server's answer: TCP sends it again */
	__u32 pad;
};

static __always_inline int has_begun(const struct hello *hello)
{
	return hello->step != HELLO_START || hello->header_have || hello->record_left;
}

/* Reads records from `bytes` on; `second` is NULL while none has been asked for. Returns 0 to go on, else the reason to
 * refuse. */
__noinline int read_records(struct __sk_buff *skb, struct hello *hello, struct hello *second,
                            struct record_bytes *bytes)
{
	struct hello_input input = { .source = skb };
	struct record_walk walk = { .skb = skb };
	__u8 reason;

	if (!hello || !bytes)
		return EGRESS_REASON_NOT_TLS;
	walk.hello = hello;
	walk.offset = bytes->offset;
	walk.left = bytes->left;
	if (!second || !has_begun(second))
		bpf_loop(HELLO_TURNS, skip_record, &walk, 0);
	bytes->offset = walk.offset;
	bytes->left = walk.left;
	if (walk.refused)
		return EGRESS_REASON_NOT_TLS;
	if (!walk.left)
		return 0;
	if (!second) {
		bytes->wait = 1;
		return walk.stopped ? 0 : EGRESS_REASON_NOT_TLS;
	}
	input.hello = second;
	input.offset = walk.offset;
	input.left = walk.left;
	reason = read_second(&input, hello);
	bytes->offset = input.offset;
	bytes->left = input.left;
	return reason;
}

#endif
