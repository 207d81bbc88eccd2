/* Test-only: the boundary on frames of a socket of the test's choice. The socket of BPF_PROG_TEST_RUN is a new one
 * each time; it gets the verdict and the ClientHello that stand here, and what became of them is put back. */
#include "boundary.h"

struct socket_verdict test_verdict = {};
struct hello test_hello = {};
__u8 has_verdict = 0;
__u8 has_hello = 0;
struct hello test_second = {};
__u8 has_second = 0;
struct inbound_key test_record_key = {};
struct inbound test_record = {};
__u64 test_record_age = 0; /* nanoseconds */
__u8 has_record = 0;

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
	if (has_second) {
		hello = bpf_sk_storage_get(&second_hellos, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!hello)
			return 0;
		__builtin_memcpy(hello, &test_second, sizeof(*hello));
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
	hello = bpf_sk_storage_get(&second_hellos, sk, NULL, 0);
	has_second = !!hello;
	if (hello)
		__builtin_memcpy(&test_second, hello, sizeof(*hello));
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

struct inbound_key frame_key = {}; /* of the frame at hand */

__noinline int note_flow(struct __sk_buff *skb)
{
	struct packet packet;

	parse_packet(skb, &packet);
	copy_address(frame_key.local, packet.flow.source);
	copy_address(frame_key.remote, packet.flow.destination);
	frame_key.local_port = packet.flow.source_port;
	frame_key.remote_port = packet.flow.port;
	frame_key.protocol = packet.flow.protocol;
	return 0;
}

static __always_inline void *records_of_pod(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	__u64 *cookie = bpf_map_lookup_elem(&interfaces, &ifindex);

	return cookie ? bpf_map_lookup_elem(&inbound, cookie) : NULL;
}

/* The same, after what came in to the pod, or an exchange that it began, has left `test_record`. Leaves no record. */
SEC("tc")
int from_pod_with_record(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	void *records;
	int action;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk || !plant(sk))
		return NO_SOCKET;
	note_flow(skb); /* now: a refusal may rewrite the frame */
	records = records_of_pod(skb);
	if (!records)
		return NO_SOCKET;
	if (has_record) {
		test_record.seen_ns = bpf_ktime_get_ns() - test_record_age;
		bpf_map_update_elem(records, &test_record_key, &test_record, BPF_ANY);
	}
	action = leave_pod(skb);
	records = records_of_pod(skb);
	if (!records)
		return NO_SOCKET;
	if (has_record)
		bpf_map_delete_elem(records, &test_record_key);
	bpf_map_delete_elem(records, &frame_key);
	return action;
}

char LICENSE[] SEC("license") = "GPL";
