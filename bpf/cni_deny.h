/* What egress-cni attaches to a pod that nothing else guards yet: shared between its BPF program and user space. */
#ifndef EGRESS_CNI_DENY_H
#define EGRESS_CNI_DENY_H

#include "egress.h"

#define EGRESS_CNI_DENY_PROGRAM "egress_cni_deny" /* the name by which the agent finds it (15 characters at most) */
#define EGRESS_CNI_DENY_HANDLE 0xea               /* of its filter, where there is no tcx */
#define EGRESS_CNI_ABOUT 3072
#define EGRESS_CNI_NETWORKS 64

/* A CIDR of the mesh. An address is in it when its family is that of the CIDR and it equals `address` under `mask`. */
struct cni_network {
	__u64 address[2]; /* 16-byte form, network order */
	__u64 mask[2];
	__u32 ip4;
	__u32 pad;
};

/* The only constant of the program, so it is the whole of its .rodata map. Zeroed it passes nothing. */
struct cni_deny {
	/* Whose interface this is: the request of the ADD as JSON text (agent/cni/request.h), ended by NUL. Stays first
	 * whatever else changes: an agent of another version reads it. */
	char about[EGRESS_CNI_ABOUT];
	struct cni_network networks[EGRESS_CNI_NETWORKS];
	__u32 network_count;
	__u32 pad;
	struct pod pod; /* `mac` and `addresses` alone are used */
};

#endif
