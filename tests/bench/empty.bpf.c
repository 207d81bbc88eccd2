/* Programs that do nothing, at the hooks of the real ones: what the kernel takes to call a program and to measure it. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int empty_frame(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

SEC("cgroup/connect4")
int empty_connect(struct bpf_sock_addr *ctx)
{
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
