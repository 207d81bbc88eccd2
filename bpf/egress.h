/* THE CONTRACT between the kernel programs and user space: every struct, enum and limit that both sides use.
 *
 * Conventions
 *  - Addresses are 16 bytes in network order; IPv4 is its IPv4-mapped form (::ffff:a.b.c.d).
 *  - Ports are in network order where the type says __be16.
 *  - The zero value of everything denies: a verdict of 0 is "deny", a class of 0 grants nothing.
 *  - Padding is spelled out and zero; nothing is packed.
 *
 * How a change becomes visible in one step
 *  There is one counter of changes, the generation. What is written for change N carries `generation` N together
 *  with the value before (`now`) and after (`next`) it. A pod sees `next` of an entry once its own generation, one
 *  aligned 64-bit word in `states`, has reached the entry's. So a change is: write beside what is in force, store
 *  one word per pod, then sweep what no pod sees any more. The proxy reads the same words (mmap) and so switches
 *  in the same instant.
 */
#ifndef EGRESS_H
#define EGRESS_H

#include <linux/types.h>

#ifdef __cplusplus
#define EGRESS_ASSERT(condition) static_assert(condition, #condition)
#else
#define EGRESS_ASSERT(condition) _Static_assert(condition, #condition)
#endif

/* Tests build an agent whose maps have another layout, to take over from this one. */
#ifdef EGRESS_TEST_LAYOUT
#define EGRESS_TEST_MEMBER __u32 test_layout[4];
#else
#define EGRESS_TEST_MEMBER
#endif

enum egress_limit {
	EGRESS_MAX_PODS = 4096,    /* slots of `states`; governed pods of one node */
	EGRESS_MAX_NAME = 256,     /* a DNS name of 255 characters and a NUL */
	EGRESS_MAX_POD_NAME = 320, /* NAMESPACE/NAME and a NUL */
	EGRESS_MAX_POD_ADDRESSES = 8,
	EGRESS_MAX_GROUPS = 16,      /* host groups of one class; the compiler merges beyond */
	EGRESS_MAX_TCP_POLICIES = 4, /* policies with a connection limit that a class can count */
	EGRESS_MAX_RULES = 1 << 20,
	EGRESS_MAX_CLASSES = 1 << 18,
	EGRESS_MAX_HOSTS = 1 << 20,
	EGRESS_MAX_NETWORKS = 1 << 16,
	EGRESS_MAX_ROUTES = 1 << 18,
	EGRESS_MAX_INBOUND = 1024,      /* inbound records of one pod */
	EGRESS_MAX_SOCKETS = 32768,     /* sockets of one pod that have called connect() */
	EGRESS_MAX_HANDOVERS = 1024,    /* ... and are on their way to the proxy */
	EGRESS_ROUTE_TEXT = 1000,       /* bytes of a chunk of `routes` */
	EGRESS_INBOUND_SECONDS = 30,    /* how long a datagram that came in lets replies out */
	EGRESS_HELLO_CHUNK = 512,       /* bytes of a ClientHello kept together */
	EGRESS_MAX_HELLO_CHUNKS = 8192, /* of one pod */
	EGRESS_HELLO_BYTES = 20000,     /* a ClientHello longer than this is refused */
	EGRESS_HELLO_STREAM = 39936,    /* ... and one that takes more of the stream, with the headers of its records */
	EGRESS_HELLO_SECONDS = 10,      /* ... and one that is not complete after this */
};

enum egress_verdict {
	EGRESS_DENY = 0,
	EGRESS_ALLOW = 1,
	EGRESS_AUDIT = 2, /* would have been denied; events and counters only */
};

/* Why. The names of the metric label and of the events stand beside; keep the order, it is stored in `stats`. */
enum egress_reason {
	EGRESS_REASON_NONE = 0,
	EGRESS_REASON_POLICY,            /* policy */
	EGRESS_REASON_SNI_MISMATCH,      /* sni-mismatch */
	EGRESS_REASON_NO_SNI,            /* no-sni */
	EGRESS_REASON_NOT_TLS,           /* not-tls */
	EGRESS_REASON_HTTP_HOST,         /* http-host */
	EGRESS_REASON_HTTP_ROUTE,        /* http-route */
	EGRESS_REASON_HTTP_MALFORMED,    /* http-malformed */
	EGRESS_REASON_PROTOCOL,          /* protocol: not TCP, and not open otherwise */
	EGRESS_REASON_FRAGMENT,          /* fragment */
	EGRESS_REASON_MALFORMED_PACKET,  /* malformed-packet */
	EGRESS_REASON_SPOOFED_SOURCE,    /* spoofed-source */
	EGRESS_REASON_NO_SOCKET,         /* no-socket: a segment that no judged socket sent */
	EGRESS_REASON_REVOKED,           /* revoked: allowed once, by a rule that is gone */
	EGRESS_REASON_LIMIT,             /* limit */
	EGRESS_REASON_PROXY_UNAVAILABLE, /* proxy-unavailable */
	EGRESS_REASON_TABLE_FULL,        /* table-full */
	EGRESS_REASON_HOST_BINDING,      /* host-binding */
	/* why something is allowed */
	EGRESS_REASON_RULE,     /* rule */
	EGRESS_REASON_MESH,     /* mesh: inside meshCIDRs, or the pod itself */
	EGRESS_REASON_EXCLUDED, /* excluded: by an exclusion list of MeshConfig */
	EGRESS_REASON_DNS,      /* dns: port 53 of a dnsServer */
	EGRESS_REASON_OPEN,     /* open: enableEgress */
	EGRESS_REASON_INBOUND,  /* inbound: a reply to what came in */
	EGRESS_REASON_MAX,
};

/* Protocols as policies name them; tcp-server-first is tcp here. Bits of rule_class.protocols. */
enum egress_protocol {
	EGRESS_TCP = 1 << 0,
	EGRESS_HTTPS = 1 << 1,
	EGRESS_HTTP = 1 << 2,
	EGRESS_UDP = 1 << 3, /* events and counters only, as the rest */
	EGRESS_ICMP = 1 << 4,
	EGRESS_OTHER = 1 << 5,
};

/* ---- Pods ---- */

/* `pods`: hash, key __u64 netns cookie. What does not change with policy. */
struct pod {
	EGRESS_TEST_MEMBER
	__u32 slot;          /* index into `states` */
	__u32 ifindex;       /* host side of the pod's veth; 0 while unguarded */
	__s32 netns_id;      /* of the pod, as seen from the node's netns (RTM_NEWNSID) */
	__u16 address_count; /* used entries of `addresses` */
	__u8 mac[6];         /* of the pod's own interface when first seen */
	__u8 pad[4];
	__be16 proxy_port4; /* the proxy's listener on proxy_address4; 0: there is none, http is refused */
	__be16 proxy_port6;
	__u8 proxy_address4[16];
	__u8 proxy_address6[16];
	__u8 addresses[EGRESS_MAX_POD_ADDRESSES][16]; /* given by the CNI, and link-local */
	char name[EGRESS_MAX_POD_NAME];               /* "curl/curl-5d8f" */
	char service_account[EGRESS_MAX_POD_NAME];    /* "curl/curl" */
};

/* `states`: array, key slot; mmapped by the agent (written) and the proxy (read). What switches with policy. */
struct pod_state {
	__u32 generation;    /* with the next word one aligned 64-bit store */
	__u32 ruleset : 28;  /* whose rules; 0: none, nothing but the mesh */
	__u32 governed : 1;  /* 0: the slot is free */
	__u32 open : 1;      /* enableEgress: everything passes */
	__u32 audit : 1;     /* decide and report, refuse nothing */
	__u32 unguarded : 1; /* nothing but the mesh */
	__u32 ifindex;       /* as in struct pod: a frame with a verdict must come from here */
	__u8 mac[6];
	__u8 pad[2];
};
EGRESS_ASSERT(sizeof(struct pod_state) == 20);

/* `interfaces`: hash, key __u32 host-side ifindex, value __u64 netns cookie. */

/* ---- Rules ---- */

/* `rules`: LPM trie. The longest prefix carries the rules of the shorter ones, so one lookup is the answer.
 * `family` comes before the address so that ::/0 is not "any": a key of 32+32 bits (no family) is any address.
 *
 *   {96, 7, 443, 0, ::}                     -> ruleset 7, port 443, any address
 *   {96+16+96+24, 7, 443, 4, ::ffff:198.51.100.0} -> ... and 198.51.100.0/24
 */
struct rule_key {
	__u32 prefixlen; /* in bits of what follows */
	__be32 ruleset;
	__be16 port;
	__be16 family; /* 4 or 6 */
	__u8 addr[16];
};
EGRESS_ASSERT(sizeof(struct rule_key) == 28);
#define EGRESS_RULE_KEY_ANY 48 /* bits of ruleset and port */
#define EGRESS_RULE_KEY_FAMILY 64

struct rule {
	__u32 generation;
	__u32 now;  /* class before ... */
	__u32 next; /* ... and from `generation` on */
	EGRESS_TEST_MEMBER
};

/* `classes`: hash, key __u32 class id (never 0). Immutable once written. What an address and port may be used for. */
struct rule_class {
	__u8 protocols; /* EGRESS_TCP | EGRESS_HTTPS | EGRESS_HTTP */
	__u8 group_count;
	__u8 tcp_unlimited; /* a tcp rule without a connection limit covers it */
	__u8 tcp_count;
	__u32 tcp_policies[EGRESS_MAX_TCP_POLICIES]; /* policy ids; [0] is named in events */
	__u32 http_policy;                           /* one of the http policies, for events */
	__u32 groups[EGRESS_MAX_GROUPS];             /* host groups of the https rules */
	EGRESS_TEST_MEMBER
};

/* `hosts`: hash. The SNI names of https rules. "example.com" stands for itself, ".example.com" for *.example.com. */
struct host_key {
	__u32 group;
	__u32 pad;
	__u64 hash; /* egress_hash() of the name from its end, keyed with config.hash_key */
};

struct host {
	__u32 generation;
	__u32 now;  /* policy id before ... */
	__u32 next; /* ... and from `generation` on; 0: not listed */
	__u16 length;
	__u16 pad;
	char name[EGRESS_MAX_NAME]; /* lower case, no trailing dot */
	EGRESS_TEST_MEMBER
};

/* `policies`: hash, key __u32 policy id. An Egress keeps its id while its agent runs. */
struct policy {
	__u32 limited;            /* 0: no limit of connections */
	__u32 max_connections;    /* for each pod */
	__u32 connect_timeout_ms; /* 0: the kernel's own */
	__u32 pad;
	char name[EGRESS_MAX_POD_NAME]; /* "curl/httpbin-443" */
	EGRESS_TEST_MEMBER
};

/* `connections`: hash. How many connections of a pod count against a policy's limit (policy 0: all of the pod). */
struct connection_key {
	__u32 slot;
	__u32 policy;
};

/* `networks`: LPM trie over {family, address}. Longest prefix carries the flags of the shorter ones. */
struct network_key {
	__u32 prefixlen;
	__be16 family;
	__u8 pad[2]; /* counted in prefixlen */
	__u8 addr[16];
};
EGRESS_ASSERT(sizeof(struct network_key) == 24);
#define EGRESS_NETWORK_KEY_FAMILY 32

enum egress_network_flag {
	EGRESS_NET_MESH = 1 << 0,
	EGRESS_NET_EXCLUDED = 1 << 1, /* MeshConfig's exclusion list, or outside its inclusion list */
	EGRESS_NET_DNS = 1 << 2,      /* port 53, UDP and TCP */
};

struct network {
	__u32 generation;
	__u32 now;
	__u32 next;
	EGRESS_TEST_MEMBER
};

/* `ports`: hash, key __be16 TCP port of outboundPortExclusionList; value struct network with flags (0 or EXCLUDED). */

/* `config`: array of one. */
struct egress_config {
	__u64 hash_key[2];     /* random, chosen when the map is made */
	__u32 next_id;         /* ids of rulesets, classes, groups and policies are below it */
	__u32 generation;      /* of the last change */
	__u8 other_protocols;  /* 1: IP traffic other than TCP is open */
	__u8 keep_connections; /* 1: revokeConnections is false: what was allowed once goes on */
	__u8 port_exclusions;  /* `ports` has, or had, entries: worth a look */
	__u8 connect_timeouts; /* a policy has, or had, a connectTimeout */
	__u8 pad[4];
	EGRESS_TEST_MEMBER
};

/* `routes`: hash. The policies as the proxy and egressctl read them: JSON in chunks, one document per Egress.
 * A document is in force for a pod whose generation g has from <= g and (until == 0 or g < until). */
struct route_key {
	__u32 document; /* every version of an Egress is another one */
	__u32 chunk;    /* 0, 1, ... */
};

struct route {
	__u32 from;
	__u32 until;
	__u32 chunks; /* of the document */
	__u32 length; /* of `text` here */
	char text[EGRESS_ROUTE_TEXT];
	EGRESS_TEST_MEMBER
};

/* ---- Sockets ---- */

enum egress_socket_kind {
	EGRESS_SOCKET_DENIED = 0,
	EGRESS_SOCKET_ALLOWED,    /* frames that equal the tuple pass */
	EGRESS_SOCKET_TLS,        /* https: undecided until the name is judged; see struct hello */
	EGRESS_SOCKET_REDIRECTED, /* goes to the proxy; its frames never pass the boundary */
	EGRESS_SOCKET_INBOUND,    /* came in */
	EGRESS_SOCKET_DATAGRAM,   /* UDP: the pod is known, frames are judged one by one */
	EGRESS_SOCKET_PROXY_HTTP, /* marked by the agent: upstream socket of the proxy; becomes ALLOWED at connect */
	EGRESS_SOCKET_PROXY_TLS,  /* ... for TLS on a port with http and https; becomes TLS at connect */
	EGRESS_SOCKET_DOWNSTREAM, /* accepted by the proxy: `original` is where the client wanted to go */
};

#define EGRESS_SOCKET_VERSION 1

/* `sockets`: sk_storage. Lives across agents: append only, in `spare`; bump the version. */
struct socket_verdict {
	__u8 version;
	__u8 kind;        /* enum egress_socket_kind */
	__u8 reason;      /* enum egress_reason */
	__u8 proxy;       /* kind it was marked with (PROXY_HTTP, PROXY_TLS), or 0 */
	__u32 slot;       /* of the pod */
	__u64 cookie;     /* of the pod's netns */
	__u32 generation; /* under which it was judged */
	__u32 policy;     /* that decided, 0 if none */
	__u32 counted;    /* policy against whose limit it counts, 0 if none */
	__be16 source_port;
	__be16 port;
	__u8 source[16];
	__u8 destination[16];
	__be16 original_port;   /* REDIRECTED, DOWNSTREAM: before the rewrite */
	__u8 once_allowed;      /* its handshake went out: both ends are told when it is cut */
	__u8 state;             /* TCP state seen last, for counting */
	__u8 protocols;         /* REDIRECTED, DOWNSTREAM: EGRESS_HTTP, or with EGRESS_HTTPS */
	__u8 handshake_limited; /* connectTimeout is set on it; `own_timeout_ms` is what it had itself */
	__u8 in_usage;          /* counts in `usage` */
	__u8 pad[1];
	__u8 original[16];
	__u32 own_timeout_ms;
	__u8 spare[36];
};
EGRESS_ASSERT(sizeof(struct socket_verdict) == 128);

/* Where the parser of a ClientHello stands; see hello.h. */
enum hello_step {
	HELLO_START = 0,
	HELLO_DONE = 100, /* all of it seen, exactly one name */
	HELLO_REFUSED = 101,
};

/* `hellos`: sk_storage of https connections. The name stays: a later change has to judge it again.
 * Append only, as struct socket_verdict. */
struct hello {
	__u64 started_ns;    /* bpf_ktime_get_ns() of its first byte, 0: none yet */
	__u32 next_sequence; /* host order: of the first byte not yet read */
	__u32 busy;          /* a CPU is working on it */
	__u32 bytes;         /* of the stream read so far */
	__u32 record_left;   /* of the current TLS record */
	__u32 message_left;  /* of the ClientHello message */
	__u32 extensions_left;
	__u32 field_left;     /* of the field that is being skipped or read */
	__u32 value;          /* a length or type that is being put together */
	__u16 extension_left; /* of the server_name extension */
	__u16 list_left;      /* of its list of names */
	__u8 step;            /* enum hello_step */
	__u8 after;           /* step that follows a skip; before an extension's length: 0 if it is server_name */
	__u8 need;            /* bytes of `value` still to come */
	__u8 header_have;     /* bytes of the record header read */
	__u8 names;           /* server_name extensions seen */
	__u8 judged;          /* the name has been judged and is listed */
	__u8 started;         /* next_sequence is known */
	__u8 version;
	__u16 name_length;
	__u16 pad;
	__u64 socket;         /* key of `hello_bytes` */
	__u32 begin_sequence; /* host order: of the stream's first byte */
	__u8 awaited;         /* judged and let through; the server has not acknowledged all of it yet */
	__u8 remembered;      /* chunks in `hello_bytes` */
	__u8 answer;          /* enum hello_answer */
	__u8 answer_read;     /* bytes of the server's answer that have been looked at */
	__u32 answer_begin;   /* host order: of the server's first byte; known where `answer_expected` */
	__u8 answer_expected;
	__u8 second_judged; /* 1: the name of the second ClientHello is that of the first */
	__u8 second_done;   /* ... and all of it has been seen */
	__u8 pad3;
	__u32 spare[2];
	char name[EGRESS_MAX_NAME]; /* lower case, no trailing dot */
};

/* What the server has said to a ClientHello, by the first bytes that it sends. */
enum hello_answer {
	HELLO_UNANSWERED = 0,
	HELLO_TAKEN, /* or refused: no second one can follow */
	HELLO_RETRY, /* HelloRetryRequest: a second one follows */
};

#define HELLO_VERSION 1 /* its stream has been seen from the SYN on, by programs that know of second ones */

/* `second_hellos`: sk_storage of struct hello, for connections whose server has asked for a second ClientHello: how far
 * that is parsed, and its name. Its place in the stream stands in the first one's. */

/* `hello_bytes`: hash. The bytes of a ClientHello that were judged, until its server has them: whatever is sent again
 * has to be the same. The first half of a chunk is used; the rest lets the verifier see that no write leaves it. */
struct hello_chunk_key {
	__u64 socket;
	__u32 chunk;
	__u32 pad;
};

struct hello_chunk {
	__u8 bytes[2 * EGRESS_HELLO_CHUNK];
};

/* `awaiting`: array, key slot, and EGRESS_MAX_PODS for all together. */
struct awaiting {
	__u32 hellos; /* whose acknowledgement is awaited */
	__u32 chunks; /* in `hello_bytes` */
};

/* `usage`: array, key slot. The memory of verdicts is the agent's and `handover` is everybody's, so one pod may not have
 * as many as it likes. */
struct usage {
	__u32 sockets;   /* that carry a verdict from connect() */
	__u32 handovers; /* entries in `handover` */
};

/* `handover`: hash, between connect() in the pod and accept() in the proxy. */
struct handover_key {
	__u64 cookie; /* of the pod's netns */
	__be16 port;  /* client's source port */
	__u8 pad[6];
	__u8 addr[16]; /* client's source address */
};

struct handover {
	__u8 addr[16]; /* original destination */
	__be16 port;
	__u8 protocols;
	__u8 pad;
	__u32 generation;
	__u32 policy;
};

/* `inbound`: hash of maps, netns cookie -> LRU hash. What came in over the pod's interface, from its side:
 * local is the pod. ICMP: the identifier in both ports. */
struct inbound_key {
	__u8 local[16];
	__u8 remote[16];
	__be16 local_port;
	__be16 remote_port;
	__u8 protocol; /* IPPROTO_* */
	__u8 pad[3];
};

struct inbound {
	__u64 seen_ns;    /* bpf_ktime_get_ns() of the last datagram, or of the SYN */
	__u32 sequence;   /* TCP: of the SYN, host order */
	__u8 opened_here; /* 1: the pod spoke first; what comes in is an answer and opens nothing */
	__u8 pad[3];
};

/* ---- Reports ---- */

/* `stats`: per-CPU hash, value __u64 count. */
struct stat_key {
	__u32 slot;
	__u8 protocol; /* enum egress_protocol */
	__u8 verdict;  /* enum egress_verdict */
	__u8 reason;   /* enum egress_reason */
	__u8 pad;
};

/* `budgets`: array, key slot. */
struct event_budget {
	__u64 window; /* second in which `count` was counted */
	__u32 count;
	__u32 pad;
};

/* `samples`: LRU hash, value __u64 time of the last event. The first allowed connection of each is told. */
struct sample_key {
	__u32 slot;
	__u32 policy;
	__u32 reason;
	__be16 port;
	__u16 protocol;
};

enum egress_hook {
	EGRESS_HOOK_CONNECT = 1,
	EGRESS_HOOK_SEND,
	EGRESS_HOOK_BOUNDARY,
	EGRESS_HOOK_CHANGE, /* judged again after a change of policy */
};

/* `events`: ring buffer. */
struct event {
	__u64 time_ns; /* bpf_ktime_get_boot_ns() */
	__u64 cookie;  /* of the pod's netns */
	__u32 slot;
	__u32 policy;
	__u8 verdict;
	__u8 reason;
	__u8 protocol;
	__u8 hook;
	__be16 source_port;
	__be16 port;
	__u8 source[16];
	__u8 destination[16];
	char sni[EGRESS_MAX_NAME];
};

/* `revoked`: what the revoke iterator writes, one record per socket to destroy. */
struct revoked {
	__u64 cookie;        /* of the netns */
	__u64 socket_cookie; /* sk cookie, for inet_diag */
	__be16 source_port;
	__be16 port;
	__u8 source[16];
	__u8 destination[16];
	__u8 family; /* AF_INET or AF_INET6: of the socket */
	__u8 pad[3];
};

#endif
