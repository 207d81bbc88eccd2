/* What the parts of the boundary share: a frame, the pod it comes from, and how it is refused. */
#ifndef EGRESS_FRAME_H
#define EGRESS_FRAME_H

#include "reset.h"
#include "socket.h"

/* What to do with a frame that passes: TC_ACT_UNSPEC (= TCX_NEXT), so that the CNI's own programs still run. */
#define PASS TC_ACT_UNSPEC
#define DROP TC_ACT_SHOT

struct boundary {
	struct packet packet;
	struct governed in;
};

/* Tells a refusal; under audit the frame passes all the same. `reset` TCP: whom to tell. */
enum reset_whom { RESET_NONE = 0, RESET_POD, RESET_BOTH };

static __always_inline int refuse_frame(struct __sk_buff *skb, struct boundary *b, __u8 label, __u8 reason,
                                        __u32 policy, enum reset_whom whom, const struct hello *hello)
{
	__u8 verdict = b->in.state->audit ? EGRESS_AUDIT : EGRESS_DENY;

	tell(&b->packet.flow, &b->in, label, verdict, reason, policy, EGRESS_HOOK_BOUNDARY, hello);
	if (verdict == EGRESS_AUDIT)
		return PASS;
	if (whom == RESET_NONE || b->packet.flow.protocol != IPPROTO_TCP)
		return DROP;
	return reset_connection(skb, &b->packet, whom == RESET_BOTH, PASS);
}

#endif
