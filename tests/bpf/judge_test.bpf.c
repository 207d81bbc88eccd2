/* Test-only: puts the questions in `probes` to the code of judge.h, so that its answers can be compared with those of
 * agent/policy. All other maps are those of the product's object, as the agent's own code has filled them. */
#include "judge_name.h"
#include "pod.h"
#include "tests/bpf/judge_probe.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, JUDGE_PROBES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct judge_probe);
} probes SEC(".maps");

__u32 probe_count = 0;

static __always_inline void judge_tcp(struct judge_probe *probe, const struct flow *flow, const struct governed *in)
{
	struct judgement out;

	judge_connection(flow, in->pod, in->state, &out);
	probe->kind = out.kind;
	probe->reason = out.reason;
	probe->protocols = out.protocols;
	probe->label = out.label;
	probe->policy = out.policy;
	probe->counted = out.counted;
	probe->named = probe->hello.name_length ? judge_names(&probe->hello, &out, in->state->generation) : 0;
}

static long judge_probe(__u32 i, void *context)
{
	struct judge_probe *probe = bpf_map_lookup_elem(&probes, &i);
	struct flow flow = {};
	struct governed in;

	if (!probe)
		return 1;
	probe->governed = find_pod(probe->cookie, &in);
	if (!probe->governed)
		return 0;
	copy_address(flow.destination, probe->destination);
	flow.port = probe->port;
	flow.protocol = probe->protocol;
	if (flow.protocol == IPPROTO_TCP)
		judge_tcp(probe, &flow, &in);
	else
		probe->packet_reason = judge_packet(&flow, in.pod, in.state);
	return 0;
}

SEC("tc")
int judge(struct __sk_buff *skb)
{
	return bpf_loop(probe_count, judge_probe, NULL, 0);
}

char LICENSE[] SEC("license") = "GPL";
