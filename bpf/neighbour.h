/* What a pod says on its link, so that its neighbours find it: ARP and IPv6 neighbour discovery, for itself only. */
#ifndef EGRESS_NEIGHBOUR_H
#define EGRESS_NEIGHBOUR_H

#include "packet.h"

static __always_inline int is_unspecified(const __u8 address[16])
{
	const __u64 *words = (const __u64 *)address;

	return !words[0] && !words[1];
}

#define ARP_LENGTH 28 /* with the target, which does not matter */

/* ARP over Ethernet (RFC 826) that speaks for the pod's own addresses, or asks whether one is free (RFC 5227). */
static __always_inline int is_honest_arp(struct __sk_buff *skb, const struct pod *pod)
{
	struct {
		__be16 hardware, protocol;
		__u8 hardware_length, protocol_length;
		__be16 operation;
		__u8 sender_mac[6];
		__u8 sender[4];
	} arp;
	__u8 sender[16];
	__u32 ip4;

	if (skb->len < ETH_HLEN + ARP_LENGTH || bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return 0;
	if (arp.hardware != bpf_htons(1) || arp.protocol != bpf_htons(ETH_P_IP) || arp.hardware_length != 6 ||
	    arp.protocol_length != 4 || !same_mac(arp.sender_mac, pod->mac))
		return 0;
	__builtin_memcpy(&ip4, arp.sender, sizeof(ip4));
	map_ip4(sender, ip4);
	return ip4 == 0 || is_own_address(pod, sender);
}

/* A unicast address that shares its subnet prefix (64 bits: RFC 4291, 2.5.1) with one of the pod's. */
static __always_inline int is_on_link(const struct pod *pod, const __u8 address[16])
{
	const __u64 *wanted = (const __u64 *)address;

	for (int i = 0; i < EGRESS_MAX_POD_ADDRESSES; i++) {
		const __u64 *own = (const __u64 *)pod->addresses[i];

		if (i < pod->address_count && !is_ip4(pod->addresses[i]) && own[0] == wanted[0])
			return 1;
	}
	return 0;
}

/* Neighbour discovery and MLD (RFC 4861, RFC 3810): without them IPv6 does not work. Link scope, hop limit checked
 * by the receiver: 255, and 1 for MLD; the node would forward what is for another link. An advertisement may speak for
 * the pod's own addresses only. */
static __always_inline int is_neighbour_discovery(struct __sk_buff *skb, const struct packet *packet,
                                                  const struct pod *pod)
{
	const __u8 *to = packet->flow.destination;
	int link_scope = (to[0] == 0xff && (to[1] & 15) == 2) || is_link_local(to);
	__u8 target[16];

	if (packet->flow.protocol != IPPROTO_ICMP6 || packet->bad)
		return 0;
	if (!is_own_address(pod, packet->flow.source) && !is_unspecified(packet->flow.source))
		return 0;
	switch (packet->icmp_type) {
	case 131: /* MLD report, done, v2 report */
	case 132:
	case 143: return packet->hop_limit == 1 && link_scope;
	case 133: /* router solicitation */ return packet->hop_limit == 255 && link_scope;
	case 135: /* neighbour solicitation, also to a unicast address of the link */
		return packet->hop_limit == 255 && (link_scope || is_on_link(pod, to));
	case 136: /* advertisement */
		return packet->hop_limit == 255 && (link_scope || is_on_link(pod, to)) &&
		       packet->l4 + 8 + sizeof(target) <= packet->end &&
		       !bpf_skb_load_bytes(skb, packet->l4 + 8, target, sizeof(target)) && is_own_address(pod, target);
	}
	return 0;
}

#endif
