/* bpf/packet.h in user space: parses bytes in memory. C, as the headers of libbpf are. */
#include "tests/fuzz/packet_parser.h"

#include <linux/bpf.h>
#include <string.h>

#include <bpf/bpf_helpers.h>

/* What a program is given, with the bytes behind it. */
struct memory_skb {
	struct __sk_buff skb;
	const unsigned char *bytes;
};

static long load_memory(const void *skb, __u32 offset, void *to, __u32 length)
{
	const struct memory_skb *memory = skb;

	if (offset > memory->skb.len || length > memory->skb.len - offset)
		return -1;
	memcpy(to, memory->bytes + offset, length);
	return 0;
}

#define bpf_skb_load_bytes load_memory
#include "bpf/packet.h"

void parse_memory(const unsigned char *bytes, unsigned length, int vlan_present, int gso_segs, struct parsed *out)
{
	struct memory_skb memory = { .skb = { .len = length, .vlan_present = vlan_present, .gso_segs = gso_segs },
				     .bytes = bytes };
	struct packet packet;

	parse_packet(&memory.skb, &packet);
	memset(out, 0, sizeof(*out));
	memcpy(out->source, packet.flow.source, 16);
	memcpy(out->destination, packet.flow.destination, 16);
	memcpy(out->mac, packet.mac, 6);
	out->source_port = bpf_ntohs(packet.flow.source_port);
	out->port = bpf_ntohs(packet.flow.port);
	out->protocol = packet.flow.protocol;
	out->is_ip = packet.kind == PACKET_IP;
	out->is_arp = packet.kind == PACKET_ARP;
	out->bad = packet.bad;
	out->l4 = packet.l4;
	out->end = packet.end;
	out->payload = packet.payload;
	out->sequence = packet.sequence;
	out->flags = packet.flags;
}
