/* ClientHello -> name: a resumable parser of TLS records (RFC 8446, 5.1), the ClientHello (4.1.2) and its
 * server_name extension (RFC 6066, 3). Its state is struct hello, so that it goes on wherever a segment ends.
 *
 * It reads field by field: every turn of the loop takes a number (lengths, types), a piece of the name, or skips a
 * field, as far as the bytes at hand reach. What is not a well-formed ClientHello ends in HELLO_REFUSED.
 *
 * The includer provides HELLO_LOAD(source, offset, to, length): copies bytes, returns 0 on success. In the kernel
 * that is bpf_skb_load_bytes(), in user space (fuzzing, unit tests) a memcpy.
 */
#ifndef EGRESS_HELLO_H
#define EGRESS_HELLO_H

#include "egress.h"

enum {
	RECORD_HANDSHAKE = 22, /* type of a TLS record (RFC 8446, 5.1) */
	HELLO_TURNS = 16384,   /* of the loop for one frame; a frame that needs more is refused */
	HELLO_PIECE = 16,      /* bytes of the name taken in one turn */

	HELLO_MESSAGE_TYPE = 0, /* = HELLO_START */
	HELLO_MESSAGE_LENGTH,
	HELLO_SESSION_LENGTH,
	HELLO_CIPHERS_LENGTH,
	HELLO_COMPRESSION_LENGTH,
	HELLO_EXTENSIONS_LENGTH,
	HELLO_EXTENSION_TYPE,
	HELLO_EXTENSION_LENGTH,
	HELLO_LIST_LENGTH,
	HELLO_NAME_TYPE,
	HELLO_NAME_LENGTH,
	HELLO_NAME,
	HELLO_SKIP, /* `field_left` bytes, then step `after` */
};

struct hello_input {
	void *source; /* of HELLO_LOAD */
	struct hello *hello;
	__u32 offset; /* of the next byte in the source */
	__u32 left;   /* bytes from there */
	__u32 done;   /* the loop has ended by itself */
};

static __always_inline long hello_refuse(struct hello *hello)
{
	hello->step = HELLO_REFUSED;
	return 1;
}

/* Go on with a number of `bytes` bytes. */
static __always_inline void hello_number(struct hello *hello, __u8 step, __u8 bytes)
{
	hello->step = step;
	hello->need = bytes;
	hello->value = 0;
}

static __always_inline void hello_next_extension(struct hello *hello)
{
	if (hello->extensions_left >= 4)
		hello_number(hello, HELLO_EXTENSION_TYPE, 2);
	else
		hello->step = hello->message_left || hello->record_left ? HELLO_REFUSED : HELLO_DONE;
}

static __always_inline void hello_after_skip(struct hello *hello)
{
	switch (hello->after) {
	case HELLO_SESSION_LENGTH:
	case HELLO_COMPRESSION_LENGTH: hello_number(hello, hello->after, 1); break;
	case HELLO_EXTENSION_TYPE: hello_next_extension(hello); break;
	default: hello_number(hello, hello->after, 2);
	}
	/* A message that ends too early is refused with its last byte, not with the next that comes. */
	if (hello->step < HELLO_DONE && hello->message_left < hello->need)
		hello->step = HELLO_REFUSED;
}

/* Skip `length` bytes of the message, then go on with the number of `step`. */
static __always_inline long hello_skip(struct hello *hello, __u32 length, __u8 step)
{
	if (length > hello->message_left)
		return hello_refuse(hello);
	hello->field_left = length;
	hello->after = step;
	hello->step = HELLO_SKIP;
	if (!length)
		hello_after_skip(hello);
	return 0;
}

/* An extension of `length` bytes begins; its header has been counted. */
static __always_inline long hello_extension(struct hello *hello, __u32 length)
{
	if (length > hello->extensions_left)
		return hello_refuse(hello);
	hello->extensions_left -= length;
	if (hello->after != 0) /* its type; 0 is server_name */
		return hello_skip(hello, length, HELLO_EXTENSION_TYPE);
	if (hello->names || length < 5)
		return hello_refuse(hello);
	hello->names = 1;
	hello->extension_left = length;
	hello_number(hello, HELLO_LIST_LENGTH, 2);
	return 0;
}

/* A number is complete: `hello->value`. */
static __always_inline long hello_take_number(struct hello *hello)
{
	__u32 value = hello->value;

	switch (hello->step) {
	case HELLO_MESSAGE_TYPE:
		if (value != 1)
			return hello_refuse(hello);
		hello_number(hello, HELLO_MESSAGE_LENGTH, 3);
		return 0;
	case HELLO_MESSAGE_LENGTH:
		if (value < 41 || value + 4 > EGRESS_HELLO_BYTES)
			return hello_refuse(hello);
		hello->message_left = value;
		return hello_skip(hello, 34, HELLO_SESSION_LENGTH);
	case HELLO_SESSION_LENGTH:
		return value > 32 ? hello_refuse(hello) : hello_skip(hello, value, HELLO_CIPHERS_LENGTH);
	case HELLO_CIPHERS_LENGTH:
		if (value < 2 || value & 1)
			return hello_refuse(hello);
		return hello_skip(hello, value, HELLO_COMPRESSION_LENGTH);
	case HELLO_COMPRESSION_LENGTH:
		return value < 1 ? hello_refuse(hello) : hello_skip(hello, value, HELLO_EXTENSIONS_LENGTH);
	case HELLO_EXTENSIONS_LENGTH:
		if (value != hello->message_left)
			return hello_refuse(hello);
		hello->extensions_left = value;
		hello_next_extension(hello);
		return 0;
	case HELLO_EXTENSION_TYPE:
		hello->extensions_left -= 4;
		hello->after = value != 0;
		hello_number(hello, HELLO_EXTENSION_LENGTH, 2);
		return 0;
	case HELLO_EXTENSION_LENGTH: return hello_extension(hello, value);
	case HELLO_LIST_LENGTH:
		if (value + 2 != hello->extension_left)
			return hello_refuse(hello);
		hello->list_left = value;
		hello_number(hello, HELLO_NAME_TYPE, 1);
		return 0;
	case HELLO_NAME_TYPE:
		if (value != 0)
			return hello_refuse(hello);
		hello_number(hello, HELLO_NAME_LENGTH, 2);
		return 0;
	case HELLO_NAME_LENGTH:
		if (value + 3 != hello->list_left || value < 1 || value > 255)
			return hello_refuse(hello);
		hello->field_left = value;
		hello->name_length = 0;
		hello->step = HELLO_NAME;
		return 0;
	}
	return hello_refuse(hello);
}

/* The name is complete: no empty label; one trailing dot goes. */
static __always_inline long hello_end_name(struct hello *hello)
{
	__u32 last = hello->name_length - 1;

	if (last < EGRESS_MAX_NAME && hello->name[last] == '.') {
		hello->name[last] = 0;
		hello->name_length = last;
	}
	if (!hello->name_length)
		return hello_refuse(hello);
	hello_next_extension(hello);
	return 0;
}

/* One character of the name, in lower case; 0 if it may not stand in a name. */
static __always_inline __u8 hello_character(__u8 c)
{
	if (c >= 'A' && c <= 'Z')
		return c + 32;
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.')
		return c;
	return 0;
}

static __always_inline long hello_take_name(struct hello_input *input, __u32 take)
{
	struct hello *hello = input->hello;
	__u8 piece[HELLO_PIECE];

	if (take > HELLO_PIECE)
		take = HELLO_PIECE;
	if (take < 1)
		return hello_refuse(hello);
	asm volatile("" : "+r"(take)); /* for Linux 6.1, which does not see by the comparisons that it is 1 to 16 */
	take = ((take - 1) & (HELLO_PIECE - 1)) + 1;
	if (HELLO_LOAD(input->source, input->offset, piece, take))
		return hello_refuse(hello);
	for (__u32 i = 0; i < HELLO_PIECE; i++) {
		__u32 at = hello->name_length;
		__u8 c;

		if (i >= take)
			break;
		c = hello_character(piece[i]);
		if (!c || at >= EGRESS_MAX_NAME)
			return hello_refuse(hello);
		if (c == '.' && (at == 0 || hello->name[(at - 1) & (EGRESS_MAX_NAME - 1)] == '.'))
			return hello_refuse(hello);
		asm volatile("" : "+r"(at)); /* or clang drops the mask, which the verifier wants to see */
		hello->name[at & (EGRESS_MAX_NAME - 1)] = c;
		hello->name_length = at + 1;
	}
	hello->field_left -= take;
	hello->message_left -= take;
	hello->record_left -= take;
	input->offset += take;
	input->left -= take;
	return hello->field_left ? 0 : hello_end_name(hello);
}

/* Takes a byte of a record's header; header_have is 0 again once it is whole, and record_left its length. */
static __always_inline void hello_count_record_byte(struct hello *hello, __u8 byte)
{
	switch (hello->header_have++) {
	case 0:
	case 1:
	case 2: return;
	case 3: hello->record_left = (__u32)byte << 8; return;
	}
	hello->record_left |= byte;
	hello->header_have = 0;
}

/* The same where it has to be that of a handshake, version 3.x. */
static __always_inline long hello_take_record_byte(struct hello *hello, __u8 byte)
{
	if ((hello->header_have == 0 && byte != RECORD_HANDSHAKE) || (hello->header_have == 1 && byte != 3))
		return hello_refuse(hello);
	hello_count_record_byte(hello, byte);
	if (hello->header_have)
		return 0;
	return hello->record_left < 1 || hello->record_left > 16384 ? hello_refuse(hello) : 0;
}

/* One turn: as many bytes as the current field has, at least one. Returns 1 to end the loop. */
static long hello_turn(__u32 turn, void *context)
{
	struct hello_input *input = (struct hello_input *)context; /* user space compiles it as C++ */
	struct hello *hello = input->hello;
	__u32 take;
	__u8 byte;

	(void)turn;
	if (hello->step >= HELLO_DONE || !input->left) {
		input->done = 1;
		return 1;
	}
	if (!hello->record_left || hello->header_have) {
		if (HELLO_LOAD(input->source, input->offset, &byte, 1))
			return hello_refuse(hello);
		input->offset++;
		input->left--;
		return hello_take_record_byte(hello, byte);
	}
	take = input->left < hello->record_left ? input->left : hello->record_left;
	if (hello->step == HELLO_SKIP || hello->step == HELLO_NAME) {
		if (take > hello->field_left)
			take = hello->field_left;
		if (hello->step == HELLO_NAME)
			return hello_take_name(input, take);
		hello->field_left -= take;
		hello->record_left -= take;
		hello->message_left -= take;
		input->offset += take;
		input->left -= take;
		if (!hello->field_left)
			hello_after_skip(hello);
		return 0;
	}
	if (hello->step == HELLO_START && !hello->need)
		hello->need = 1;
	if (HELLO_LOAD(input->source, input->offset, &byte, 1))
		return hello_refuse(hello);
	if (hello->step > HELLO_MESSAGE_LENGTH) {
		if (!hello->message_left)
			return hello_refuse(hello);
		hello->message_left--;
	}
	hello->record_left--;
	input->offset++;
	input->left--;
	hello->value = hello->value << 8 | byte;
	return --hello->need ? 0 : hello_take_number(hello);
}

#endif
