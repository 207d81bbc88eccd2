/* Entry points. What they do is in the headers: connect.h, datagram.h and tcp_events.h (sockets), boundary.h (frames),
 * judge.h (rules), revoke.h (changes). */
#include "boundary.h"
#include "connect.h"
#include "datagram.h"
#include "revoke.h"
#include "tcp_events.h"

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, 0);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, 1);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return on_sendmsg(ctx, 0);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return on_sendmsg(ctx, 1);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return on_getpeername(ctx, 0);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return on_getpeername(ctx, 1);
}

SEC("cgroup/sock_release")
int release(struct bpf_sock *ctx)
{
	return on_release(ctx);
}

SEC("sockops")
int tcp_events(struct bpf_sock_ops *ctx)
{
	on_sockops(ctx);
	return 1;
}

SEC("cgroup_skb/egress")
int skb_egress(struct __sk_buff *skb)
{
	return send_datagram(skb);
}

/* Host side of the veth, ingress: what leaves the pod. */
SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return leave_pod(skb);
}

/* Host side of the veth, egress: what enters the pod. */
SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return enter_pod(skb);
}

char LICENSE[] SEC("license") = "GPL";
