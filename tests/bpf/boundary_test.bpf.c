/* Test-only: the boundary on frames of a socket of the test's choice. The socket of BPF_PROG_TEST_RUN is a new one
 * each time; it gets the verdict and the ClientHello that stand here, and what became of them is put back. */
#include "boundary.h"

struct socket_verdict test_verdict = {};
struct hello test_hello = {};
__u8 has_verdict = 0;
__u8 has_hello = 0;

enum { NO_SOCKET = 100 };

static __always_inline int plant(struct bpf_sock *sk)
{
	struct socket_verdict *verdict;
	struct hello *hello;

	if (has_verdict) {
		verdict = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!verdict)
			return 0;
		*verdict = test_verdict;
	}
	if (has_hello) {
		hello = bpf_sk_storage_get(&hellos, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!hello)
			return 0;
		__builtin_memcpy(hello, &test_hello, sizeof(*hello));
	}
	return 1;
}

static __always_inline void harvest(struct bpf_sock *sk)
{
	struct socket_verdict *verdict = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	struct hello *hello = bpf_sk_storage_get(&hellos, sk, NULL, 0);

	has_verdict = !!verdict;
	if (verdict)
		test_verdict = *verdict;
	has_hello = !!hello;
	if (hello)
		__builtin_memcpy(&test_hello, hello, sizeof(*hello));
}

SEC("tc")
int from_pod_with_socket(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	int action;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk || !plant(sk))
		return NO_SOCKET;
	action = leave_pod(skb);
	sk = skb->sk;
	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return NO_SOCKET;
	harvest(sk);
	return action;
}

/* The same without the short way for established connections. */
SEC("tc")
int from_pod_the_long_way(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct boundary b;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk || !plant(sk))
		return NO_SOCKET;
	parse_packet(skb, &b.packet);
	if (!find_pod_of_interface(skb->ifindex, &b.in))
		return DROP;
	return judge_frame(skb, &b);
}

char LICENSE[] SEC("license") = "GPL";
