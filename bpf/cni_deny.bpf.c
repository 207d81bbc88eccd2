/* The program that egress-cni carries: a pod that is not known (yet) reaches the mesh and nothing else. At the host side
 * of its veth, ingress. It needs neither the agent nor its maps; the agent takes it away once its own are there. */
#include "cni_deny.h"
#include "neighbour.h"

#define PASS TC_ACT_UNSPEC
#define DROP TC_ACT_SHOT

const volatile struct cni_deny deny = {};

static __always_inline int is_in_mesh(const struct cni_deny *known, const __u8 address[16])
{
	const __u64 *wanted = (const __u64 *)address;
	int ip4 = is_ip4(address);

	for (int i = 0; i < EGRESS_CNI_NETWORKS; i++) {
		const struct cni_network *network = &known->networks[i];

		if (i < known->network_count && ip4 == network->ip4 &&
		    (wanted[0] & network->mask[0]) == network->address[0] &&
		    (wanted[1] & network->mask[1]) == network->address[1])
			return 1;
	}
	return 0;
}

SEC("tc")
int egress_cni_deny(struct __sk_buff *skb)
{
	const struct cni_deny *known = (const struct cni_deny *)&deny;
	const struct pod *pod;
	struct packet packet;

	/* User space fills the constant before it is loaded: the compiler must not take its zeroes for granted. */
	asm volatile("" : "+r"(known));
	pod = &known->pod;
	parse_packet(skb, &packet);
	if (!same_mac(packet.mac, pod->mac))
		return DROP;
	if (packet.kind == PACKET_ARP)
		return is_honest_arp(skb, pod) ? PASS : DROP;
	if (packet.kind != PACKET_IP)
		return DROP;
	if (is_neighbour_discovery(skb, &packet, pod))
		return PASS;
	if (!is_own_address(pod, packet.flow.source) || is_loopback(packet.flow.destination) ||
	    is_own_address(pod, packet.flow.destination))
		return DROP;
	return is_in_mesh(known, packet.flow.destination) ? PASS : DROP;
}

char LICENSE[] SEC("license") = "GPL";
