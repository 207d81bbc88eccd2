/* What was judged is what the server gets: the bytes of a ClientHello are kept until the server has acknowledged them,
 * and what is sent again is compared. Otherwise a pod that rewrites its packets could have one name judged in a
 * segment that the server throws away (a wrong checksum, an old timestamp), and send another name in its place. The
 * acknowledgement counts where it comes in from outside, not where the pod's own stack believes it. */
#ifndef EGRESS_HELLO_MEMORY_H
#define EGRESS_HELLO_MEMORY_H

#include "packet.h"
#include "socket.h"

#define HELLO_COMPARE 16 /* bytes compared in one turn */
#define HELLO_CHUNKS (EGRESS_HELLO_STREAM / EGRESS_HELLO_CHUNK)
EGRESS_ASSERT(EGRESS_HELLO_STREAM % EGRESS_HELLO_CHUNK == 0 && HELLO_CHUNKS < 256);

struct hello_walk {
	void *skb;
	__u64 socket;
	__u32 offset; /* in the frame */
	__u32 at;     /* in the stream */
	__u32 left;
	__u32 slot;
	__u32 failed;
	__u32 made; /* chunks */
};

static __always_inline struct hello_chunk *find_chunk(struct hello_walk *walk)
{
	struct hello_chunk_key key = { .socket = walk->socket, .chunk = walk->at / EGRESS_HELLO_CHUNK };

	return bpf_map_lookup_elem(&hello_bytes, &key);
}

static __always_inline struct hello_chunk *make_chunk(struct hello_walk *walk)
{
	struct hello_chunk_key key = { .socket = walk->socket, .chunk = walk->at / EGRESS_HELLO_CHUNK };
	struct awaiting *used = bpf_map_lookup_elem(&awaiting, &walk->slot);
	struct hello_chunk *empty;
	__u32 zero = 0;

	empty = bpf_map_lookup_elem(&empty_chunk, &zero);
	if (!used || !empty || used->chunks >= EGRESS_MAX_HELLO_CHUNKS)
		return NULL;
	if (bpf_map_update_elem(&hello_bytes, &key, empty, BPF_NOEXIST))
		return NULL;
	__sync_fetch_and_add(&used->chunks, 1);
	walk->made++;
	return bpf_map_lookup_elem(&hello_bytes, &key);
}

static long keep_piece(__u32 turn, void *context)
{
	struct hello_walk *walk = context;
	struct hello_chunk *chunk;
	__u32 at, take;

	(void)turn;
	if (!walk->left)
		return 1;
	at = walk->at & (EGRESS_HELLO_CHUNK - 1);
	take = EGRESS_HELLO_CHUNK - at;
	if (take > walk->left)
		take = walk->left;
	chunk = find_chunk(walk);
	if (!chunk)
		chunk = make_chunk(walk);
	asm volatile("" : "+r"(take)); /* or clang drops the mask, which the verifier wants to see */
	take = ((take - 1) & (EGRESS_HELLO_CHUNK - 1)) + 1;
	if (!chunk || bpf_skb_load_bytes(walk->skb, walk->offset, chunk->bytes + at, take)) {
		walk->failed = 1;
		return 1;
	}
	walk->offset += take;
	walk->at += take;
	walk->left -= take;
	return 0;
}

static long compare_piece(__u32 turn, void *context)
{
	struct hello_walk *walk = context;
	struct hello_chunk *chunk = find_chunk(walk);
	__u32 at, take;
	__u8 piece[HELLO_COMPARE];

	(void)turn;
	if (!walk->left)
		return 1;
	at = walk->at & (EGRESS_HELLO_CHUNK - 1);
	take = HELLO_COMPARE - (at & (HELLO_COMPARE - 1));
	if (take > walk->left)
		take = walk->left;
	asm volatile("" : "+r"(take));
	take = ((take - 1) & (HELLO_COMPARE - 1)) + 1;
	if (!chunk || bpf_skb_load_bytes(walk->skb, walk->offset, piece, take)) {
		walk->failed = 1;
		return 1;
	}
	for (__u32 i = 0; i < HELLO_COMPARE; i++)
		if (i < take && piece[i] != chunk->bytes[at + i])
			walk->failed = 1;
	walk->offset += take;
	walk->at += take;
	walk->left -= take;
	return walk->failed != 0;
}

/* A part of the stream, where it is in the frame. */
struct hello_part {
	__u32 slot;
	__u32 offset; /* in the frame */
	__u32 at;     /* in the stream */
	__u32 length;
};

/* Keeps a part. 0: there is no room. */
__noinline int keep_hello(struct __sk_buff *skb, struct hello *hello, const struct hello_part *part)
{
	struct hello_walk walk = { .skb = skb };

	if (!hello || !part)
		return 0;
	walk.slot = part->slot;
	walk.offset = part->offset;
	walk.at = part->at;
	walk.left = part->length;
	walk.socket = hello->socket;
	bpf_loop(HELLO_CHUNKS, keep_piece, &walk, 0);
	hello->remembered += walk.made;
	return !walk.failed && !walk.left;
}

/* Is a part that is sent again what was judged? */
__noinline int same_hello(struct __sk_buff *skb, struct hello *hello, const struct hello_part *part)
{
	struct hello_walk walk = { .skb = skb };

	if (!hello || !part)
		return 0;
	walk.offset = part->offset;
	walk.at = part->at;
	walk.left = part->length;
	walk.socket = hello->socket;
	bpf_loop(65536 / HELLO_COMPARE + 2, compare_piece, &walk, 0);
	return !walk.failed && !walk.left;
}

struct forget_walk {
	struct hello_chunk_key key;
};

static long forget_chunk(__u32 chunk, void *context)
{
	struct forget_walk *walk = context;

	walk->key.chunk = chunk;
	bpf_map_delete_elem(&hello_bytes, &walk->key);
	return 0;
}

static __always_inline void count_down(__u32 *counter, __u32 by)
{
	if (*counter >= by)
		__sync_fetch_and_sub(counter, by);
}

/* The server has it, or nobody will send it any more. */
__noinline int forget_hello(struct hello *hello, __u32 slot)
{
	struct forget_walk walk = {};
	struct awaiting *pod, *all;
	__u32 total = EGRESS_MAX_PODS;

	if (!hello)
		return 0;
	pod = bpf_map_lookup_elem(&awaiting, &slot);
	all = bpf_map_lookup_elem(&awaiting, &total);
	if (hello->remembered) {
		walk.key.socket = hello->socket;
		bpf_loop(HELLO_CHUNKS, forget_chunk, &walk, 0);
		if (pod)
			count_down(&pod->chunks, hello->remembered);
		hello->remembered = 0;
	}
	if (hello->awaited && pod && all) {
		count_down(&pod->hellos, 1);
		count_down(&all->hellos, 1);
	}
	hello->awaited = 0;
	return 0;
}

/* From now on acknowledgements towards the pod are looked at. */
static __always_inline void await_acknowledgement(struct hello *hello, __u32 slot)
{
	__u32 total = EGRESS_MAX_PODS;
	struct awaiting *pod = bpf_map_lookup_elem(&awaiting, &slot), *all = bpf_map_lookup_elem(&awaiting, &total);

	if (!pod || !all || hello->awaited)
		return;
	__sync_fetch_and_add(&pod->hellos, 1);
	__sync_fetch_and_add(&all->hellos, 1);
	hello->awaited = 1;
}

/* ---- The server's answer ---- */

/* Of a HelloRetryRequest (RFC 8446, 4.1.3): a ServerHello in a handshake record, and its random. Another ServerHello
 * begins like this once in 2^32 times; then a second hello is expected that nobody sends. */
#define HELLO_ANSWER_BYTES 15

static __always_inline int begins_retry(__u32 at, __u8 byte)
{
	switch (at) {
	case 0: return byte == 22;
	case 1: return byte == 3;
	case 5: return byte == 2;
	case 9: return byte == 3;
	case 10: return byte == 3;
	case 11: return byte == 0xcf;
	case 12: return byte == 0x21;
	case 13: return byte == 0xad;
	case 14: return byte == 0x74;
	}
	return 1; /* lengths, and the minor version of the record */
}

struct answer_walk {
	void *skb;
	__u32 offset; /* in the frame, of the server's first byte */
	__u32 at;     /* of the next byte in the server's stream */
	__u32 end;    /* in the stream */
	__u32 answer;
};

static long look_at_answer(__u32 turn, void *context)
{
	struct answer_walk *walk = context;
	__u8 byte;

	(void)turn;
	if (walk->at >= walk->end || bpf_skb_load_bytes(walk->skb, walk->offset + walk->at, &byte, 1))
		return 1;
	if (!begins_retry(walk->at, byte)) {
		walk->answer = HELLO_TAKEN;
		return 1;
	}
	if (++walk->at == HELLO_ANSWER_BYTES)
		walk->answer = HELLO_RETRY;
	return 0;
}

/* Reads what is new of the server's first bytes. A segment that runs ahead waits until it is sent again. */
static __always_inline void read_answer(struct __sk_buff *skb, const struct packet *packet, struct hello *hello)
{
	__u32 length = packet->end - packet->payload, before = packet->sequence - hello->answer_begin;
	struct answer_walk walk = { .skb = skb, .offset = packet->payload - before, .at = hello->answer_read };

	if (!hello->answer_expected || hello->answer != HELLO_UNANSWERED || !length || (__s32)before < 0 ||
	    before > walk.at)
		return;
	walk.end = before + length;
	bpf_loop(HELLO_ANSWER_BYTES, look_at_answer, &walk, 0);
	hello->answer_read = walk.at;
	hello->answer = walk.answer;
}

/* May a second ClientHello still follow? */
static __always_inline int awaits_second(const struct hello *hello)
{
	if (hello->version != HELLO_VERSION || hello->second_done)
		return 0;
	return hello->answer != HELLO_TAKEN;
}

/* ---- What comes from the server ---- */

/* The pod's socket that a segment goes to, to be released; NULL if there is none. */
static __always_inline struct bpf_sock *find_receiver(struct __sk_buff *skb, const struct packet *packet,
                                                      __s32 netns_id)
{
	const struct flow *flow = &packet->flow;
	struct bpf_sock_tuple tuple;
	__u32 size = socket_tuple(&tuple, flow->source, flow->source_port, flow->destination, flow->port);

	return bpf_sk_lookup_tcp(skb, &tuple, size, netns_id, 0);
}

/* A segment enters a pod. A SYN-ACK says where the server's answer to a ClientHello will begin. Where the whole of an
 * awaited one is acknowledged, and no second can follow, the connection is like any other from here on. */
__noinline int note_acknowledgement(struct __sk_buff *skb, int is_syn)
{
	__u32 total = EGRESS_MAX_PODS;
	struct awaiting *waits = bpf_map_lookup_elem(&awaiting, &total);
	struct socket_verdict *verdict;
	struct packet packet;
	struct governed in;
	struct hello *hello;
	struct bpf_sock *sk;

	if (!waits || (!waits->hellos && !is_syn) || !find_pod_of_interface(skb->ifindex, &in))
		return 0;
	waits = bpf_map_lookup_elem(&awaiting, &in.pod->slot);
	if (!waits || (!waits->hellos && !is_syn))
		return 0;
	parse_packet(skb, &packet);
	if (packet.kind != PACKET_IP || packet.bad || !(packet.flags & TCP_ACK))
		return 0;
	sk = find_receiver(skb, &packet, in.pod->netns_id);
	if (!sk)
		return 0;
	hello = bpf_sk_storage_get(&hellos, sk, NULL, 0);
	verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!hello || !verdict || verdict->kind != EGRESS_SOCKET_TLS)
		goto out;
	if (packet.flags & TCP_SYN && !hello->answer_expected) {
		hello->answer_begin = packet.sequence + 1;
		hello->answer_expected = 1;
	}
	if (!hello->awaited)
		goto out;
	read_answer(skb, &packet, hello);
	if (!awaits_second(hello) && (__s32)(packet.acknowledged - hello->begin_sequence - hello->bytes) >= 0) {
		verdict->kind = EGRESS_SOCKET_ALLOWED;
		forget_hello(hello, in.pod->slot);
	}
out:
	bpf_sk_release(sk);
	return 0;
}

#endif
