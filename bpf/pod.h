/* Which pod is this, and what is in force for it. */
#ifndef EGRESS_POD_H
#define EGRESS_POD_H

#include "maps.h"

struct governed {
	__u64 cookie; /* of its netns */
	struct pod *pod;
	struct pod_state *state;
};

/* The pod of a netns cookie. 0 if it is not governed: then nothing here concerns it. */
static __always_inline int find_pod(__u64 cookie, struct governed *out)
{
	out->cookie = cookie;
	out->pod = bpf_map_lookup_elem(&pods, &out->cookie);
	if (!out->pod)
		return 0;
	out->state = bpf_map_lookup_elem(&states, &out->pod->slot);
	return out->state && out->state->governed;
}

/* The pod behind a host-side interface. */
static __always_inline int find_pod_of_interface(__u32 ifindex, struct governed *out)
{
	__u64 *cookie = bpf_map_lookup_elem(&interfaces, &ifindex);

	return cookie && find_pod(*cookie, out);
}

#endif
