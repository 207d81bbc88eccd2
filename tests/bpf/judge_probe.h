/* What the test-only program judge_test.bpf.c takes and gives: one question about a pod, and the kernel's answer. */
#ifndef EGRESS_JUDGE_PROBE_H
#define EGRESS_JUDGE_PROBE_H

#include "bpf/egress.h"

#define JUDGE_PROBES 2048 /* of one run */

struct judge_probe {
  /* The question: the pod's netns cookie and a flow; for TCP, `hello` with a name or with name_length 0. */
  __u64 cookie;
  __u8 destination[16];
  __be16 port;
  __u8 protocol; /* IPPROTO_* */
  __u8 pad[5];
  struct hello hello;

  /* The answer. */
  __u8 governed; /* the pod is known */
  __u8 kind;     /* TCP: fields of struct judgement */
  __u8 reason;
  __u8 protocols;
  __u32 policy;
  __u32 counted;
  __u32 named;        /* TCP with a name: what judge_names() says, 0 if the name is not listed */
  __u8 packet_reason; /* not TCP: what judge_packet() says */
  __u8 label;
  __u8 pad2[6];
};

#endif
