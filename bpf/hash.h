/* The keyed hash of names: SipHash-1-3 fed one byte per word, so that it can be taken at every dot on the way.
 *
 * A name is hashed from its end: "www.example.com" gives, on the way, the hashes of ".com", ".example.com" and
 * itself, which are the wildcards that cover it. The key is random per node, so nobody can prepare collisions;
 * the full name is compared all the same (struct host). Shared by kernel and user space.
 */
#ifndef EGRESS_HASH_H
#define EGRESS_HASH_H

#include <linux/types.h>

struct egress_hash {
	__u64 v0, v1, v2, v3;
};

static inline __attribute__((always_inline)) __u64 egress_rotl(__u64 x, int bits)
{
	return (x << bits) | (x >> (64 - bits));
}

static inline __attribute__((always_inline)) void egress_hash_round(struct egress_hash *h)
{
	h->v0 += h->v1;
	h->v1 = egress_rotl(h->v1, 13);
	h->v1 ^= h->v0;
	h->v0 = egress_rotl(h->v0, 32);
	h->v2 += h->v3;
	h->v3 = egress_rotl(h->v3, 16);
	h->v3 ^= h->v2;
	h->v0 += h->v3;
	h->v3 = egress_rotl(h->v3, 21);
	h->v3 ^= h->v0;
	h->v2 += h->v1;
	h->v1 = egress_rotl(h->v1, 17);
	h->v1 ^= h->v2;
	h->v2 = egress_rotl(h->v2, 32);
}

static inline __attribute__((always_inline)) void egress_hash_start(struct egress_hash *h, const __u64 key[2])
{
	h->v0 = key[0] ^ 0x736f6d6570736575ULL;
	h->v1 = key[1] ^ 0x646f72616e646f6dULL;
	h->v2 = key[0] ^ 0x6c7967656e657261ULL;
	h->v3 = key[1] ^ 0x7465646279746573ULL;
}

static inline __attribute__((always_inline)) void egress_hash_add(struct egress_hash *h, __u8 byte)
{
	h->v3 ^= byte;
	egress_hash_round(h);
	h->v0 ^= byte;
}

/* The hash of what was added so far; more can be added to `h` afterwards. */
static inline __attribute__((always_inline)) __u64 egress_hash_value(const struct egress_hash *h)
{
	struct egress_hash end = *h;

	end.v2 ^= 0xff;
	egress_hash_round(&end);
	egress_hash_round(&end);
	egress_hash_round(&end);
	return end.v0 ^ end.v1 ^ end.v2 ^ end.v3;
}

#endif
