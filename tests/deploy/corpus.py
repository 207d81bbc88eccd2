"""Manifests, and who must refuse them: the API server by the CRDs (admission), and egressctl validate."""

import copy
import pathlib

import yaml

ROOT = pathlib.Path(__file__).parents[2]
POLICY = "policy.openservicemesh.io/v1alpha1"
ROUTES = "specs.smi-spec.io/v1alpha4"
CONFIG = "config.openservicemesh.io/v1alpha2"

ACCEPTED = "accepted"            # by both
REFUSED = "refused"              # by both
LEFT_TO_EGRESSD = "validation"   # the CRD cannot say it: admission accepts, validation refuses
LEFT_TO_ADMISSION = "admission"  # a bound that only the API server needs


def egress(**spec):
    """A valid Egress with these fields of its spec; None takes a field away."""
    whole = {"sources": [{"kind": "ServiceAccount", "name": "curl", "namespace": "curl"}],
             "ports": [{"number": 443, "protocol": "tcp"}], **spec}
    return {"apiVersion": POLICY, "kind": "Egress", "metadata": {"name": "case", "namespace": "curl"},
            "spec": {name: value for name, value in whole.items() if value is not None}}


def web(host):
    return egress(hosts=[host], ports=[{"number": 443, "protocol": "https"}])


def reference(kind="HTTPRouteGroup", group=ROUTES, name="routes", **more):
    return {"apiGroup": group, "kind": kind, "name": name, **more}


def routes(*matches, **spec):
    return {"apiVersion": ROUTES, "kind": "HTTPRouteGroup", "metadata": {"name": "case", "namespace": "curl"},
            "spec": {"matches": list(matches), **spec}}


def setting(**spec):
    return {"apiVersion": POLICY, "kind": "UpstreamTrafficSetting", "metadata": {"name": "case", "namespace": "curl"},
            "spec": {"host": "example.com", **spec}}


def connections(tcp=None, http=None, **more):
    return setting(connectionSettings={name: value for name, value in (("tcp", tcp), ("http", http)) if value is not None}
                   | more)


def mesh_config(version=CONFIG, **spec):
    return {"apiVersion": version, "kind": "MeshConfig",
            "metadata": {"name": "osm-mesh-config", "namespace": "osm-system"}, "spec": spec}


def without(manifest, *path):
    manifest = copy.deepcopy(manifest)
    node = manifest
    for step in path[:-1]:
        node = node[step]
    del node[path[-1]]
    return manifest


SOURCE = egress()["spec"]["sources"][0]
LIMITS = reference("UpstreamTrafficSetting", POLICY, "limits")
LABEL = "a" * 63


def shipped():
    """The manifests of the walkthrough, and those that deploy/kubernetes brings."""
    folder = ROOT / "deploy/demo/manifests"
    for path in sorted([*folder.glob("*.yaml"), ROOT / "deploy/kubernetes/meshconfig/meshconfig.yaml"]):
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest["kind"] in ("Namespace", "Pod"):
                continue
            yield path.name, REFUSED if path.name == "broken.yaml" else ACCEPTED, manifest


def egress_cases():
    yield "smallest", ACCEPTED, egress()
    for protocol in ("http", "HTTP", "https", "Https", "tcp", "TCP", "tcp-server-first", "TCP-Server-First"):
        yield f"protocol {protocol}", ACCEPTED, egress(hosts=["a.example"], ports=[{"number": 80, "protocol": protocol}])
    for protocol in ("", "htpp", "udp", "tcp ", "server-first"):
        yield f"protocol {protocol!r}", REFUSED, egress(ports=[{"number": 80, "protocol": protocol}])
    for number in (1, 65535):
        yield f"port {number}", ACCEPTED, egress(ports=[{"number": number, "protocol": "tcp"}])
    for number in (0, -1, 65536, 80800, "80", 1.5, None):
        yield f"port {number!r}", REFUSED, egress(ports=[{"number": number, "protocol": "tcp"}])

    for host in ("example.com", "Example.COM.", "*.example.com", "localhost", "a_b.example", "xn--bcher-kva.example",
                 f"{LABEL}.example", ".".join([LABEL] * 3 + ["a" * 61]), "1password.com", "a.1b", "3com", "198.51.100.1",
                 "2001:db8::1", "[2001:db8::1]", "::ffff:198.51.100.1", "a.4-2"):
        yield f"host {host}", ACCEPTED, web(host)
    for host in ("", "*", "*.", "*.*.example", "a*.example", "https://example.com", "example.com/", "example.com:443",
                 "a..example", ".example", "-a.example", "a-.example", "b\u00fccher.example", "a b", f"{LABEL}a.example",
                 ".".join([LABEL] * 3 + ["a" * 62]), "198.51.100", "198.51.100.256", "198.51.100.0/24", "1.2.3.4.5",
                 "[198.51.100.1", "example.com.."):
        yield f"host {host!r}", REFUSED, web(host)
    for host in ("2001:db8:::1", "1:2:3:4:5:6:7:8:9"):
        yield f"host {host}", LEFT_TO_EGRESSD, web(host)

    for cidr in ("198.51.100.0/24", "198.51.100.7/32", "0.0.0.0/0", "128.0.0.0/1", "10.128.0.0/9", "198.51.100.64/26",
                 "2001:db8::/32", "2001:DB8::1/128", "::/0", "8000::/1", "2001:db8:8000::/33", "2001:db8::8000/113",
                 "1:2:3:4:5:6:7:8/128", "fe80::/10", "::1/128", "::ffff:198.51.100.0/120", "2001:db8:0:0:1::/80"):
        yield f"cidr {cidr}", ACCEPTED, egress(ipAddresses=[cidr])
    for cidr in ("", "198.51.100.0", "198.51.100.1/24", "198.51.100.0/33", "198.51.100.0/-1", "198.51.100/24", "1.2.3.4/0",
                 "192.0.2.1/31", "198.51.100.064/26", "198.51.100.0/024", "198.51.100.0/ 24", "a.example/24", "/24",
                 "10.129.0.0/9", "2001:db8::1/32", "2001:db8:8000::/32", "::1/0", "2001:db8::/129", "2001:db8:::/32",
                 "2001:db8::1", "2001:db8::4000/113", "1:2:3:4:5:6:7/112", "1:2:3:4:5:6:7:8:9/128", "fe80::1%eth0/128",
                 "2001:db8::/064", "g::/16", "::1::/64", "2001:db8:0:0:1::/79"):
        yield f"cidr {cidr!r}", REFUSED, egress(ipAddresses=[cidr])
    yield "cidr of the dotted form with host bits", LEFT_TO_EGRESSD, egress(ipAddresses=["::ffff:198.51.100.1/120"])
    many = egress(ipAddresses=[f"2001:db8:{i:x}::/48" for i in range(500)],
                  hosts=[f"host-{i}.example" for i in range(1000)], ports=[{"number": 443, "protocol": "https"}])
    yield "500 CIDRs and 1,000 hosts", ACCEPTED, many
    for field in ("ipAddresses", "hosts"):
        longer = copy.deepcopy(many)
        longer["spec"][field].append("2001:db8:ffff::/48" if field == "ipAddresses" else "one-more.example")
        yield f"more {field} than the budget of an admission rule allows", LEFT_TO_ADMISSION, longer

    for protocol in ("http", "https"):
        for hosts in (None, []):
            yield f"{protocol} with hosts {hosts}", REFUSED, egress(hosts=hosts, ports=[
                {"number": 25, "protocol": "tcp"}, {"number": 80, "protocol": protocol}])
    yield "tcp with hosts", ACCEPTED, egress(hosts=["a.example"])
    yield "hosts no list", REFUSED, egress(hosts="a.example")
    yield "host no string", REFUSED, egress(hosts=[1])

    for field in ("sources", "ports"):
        yield f"no {field}", REFUSED, egress(**{field: None})
        yield f"empty {field}", REFUSED, egress(**{field: []})
    yield "no spec", REFUSED, without(egress(), "spec")
    for field in ("kind", "name", "namespace"):
        yield f"source without {field}", REFUSED, without(egress(), "spec", "sources", 0, field)
        yield f"source with empty {field}", REFUSED, egress(sources=[SOURCE | {field: ""}])
    yield "source of another kind", REFUSED, egress(sources=[SOURCE | {"kind": "Pod"}])
    yield "source with a name that is none", REFUSED, egress(sources=[SOURCE | {"name": "Curl"}])
    yield "source with a dotted name", ACCEPTED, egress(sources=[SOURCE | {"name": "a.b-1"}])
    yield "source of another namespace", LEFT_TO_EGRESSD, egress(sources=[SOURCE | {"namespace": "other"}])
    yield "source with mtls", REFUSED, egress(sources=[SOURCE | {"mtls": {"issuer": "osm"}}])
    yield "source with empty mtls", REFUSED, egress(sources=[SOURCE | {"mtls": {}}])
    for field in ("number", "protocol"):
        yield f"port without {field}", REFUSED, without(egress(), "spec", "ports", 0, field)

    yield "both kinds of matches", ACCEPTED, egress(matches=[reference(), reference(name="more"), LIMITS])
    yield "no matches", ACCEPTED, egress(matches=[])
    yield "two UpstreamTrafficSettings", REFUSED, egress(matches=[LIMITS, LIMITS | {"name": "other"}])
    yield "matches of another group", REFUSED, egress(matches=[reference(group="apps/v1")])
    yield "matches of an older version", REFUSED, egress(matches=[reference(group="specs.smi-spec.io/v1alpha3")])
    yield "matches of the wrong kind", REFUSED, egress(matches=[reference(kind="TCPRoute")])
    yield "matches of the other kind", REFUSED, egress(matches=[reference(kind="UpstreamTrafficSetting")])
    yield "limits of the wrong kind", REFUSED, egress(matches=[LIMITS | {"kind": "HTTPRouteGroup"}])
    for field in ("apiGroup", "kind", "name"):
        yield f"matches without {field}", REFUSED, egress(matches=[without(reference(), field)])
        yield f"matches with empty {field}", REFUSED, egress(matches=[reference() | {field: ""}])

    yield "unknown field of the spec", REFUSED, egress(ipAddreses=["198.51.100.0/24"])
    yield "unknown field beside all others", REFUSED, egress(hosts=["a.example"], ipAddresses=["198.51.100.0/24"],
                                                             matches=[], ipAddreses=[])
    yield "unknown field of a source", REFUSED, egress(sources=[SOURCE | {"label": "x"}])
    yield "unknown field of a port", REFUSED, egress(ports=[{"number": 443, "protocol": "tcp", "host": "a.example"}])
    yield "unknown field of a match", REFUSED, egress(matches=[reference(namespace="other")])
    yield "every field", ACCEPTED, egress(hosts=["a.example"], ipAddresses=["198.51.100.0/24"], matches=[reference()])


def route_cases():
    yield "every field", ACCEPTED, routes({"name": "a", "pathRegex": "/a/.*", "methods": ["GET", "*"],
                                           "headers": [{"x-team": "blue|green"}, {"accept": ".*"}]})
    yield "no matches", ACCEPTED, routes()
    yield "no field matches", ACCEPTED, without(routes(), "spec", "matches")
    yield "no spec", REFUSED, without(routes(), "spec")
    yield "name only", ACCEPTED, routes({"name": ""})
    yield "no name", REFUSED, routes({"pathRegex": "/"})
    for method in ("*", "GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"):
        yield f"method {method}", ACCEPTED, routes({"name": "a", "methods": [method]})
    for method in ("", "get", "LINK"):
        yield f"method {method!r}", REFUSED, routes({"name": "a", "methods": [method]})
    for regex in ("", "/", "/status.*", "/(a|b)[0-9]{1,3}", r"/\d+", "(?i)/a"):
        yield f"path {regex}", ACCEPTED, routes({"name": "a", "pathRegex": regex})
        yield f"header {regex}", ACCEPTED, routes({"name": "a", "headers": [{"x": regex}]})
    for regex in ("(", "[a", "*", "a{1001}", r"(a)\1", "(?=a)", "a" * 4097):
        yield f"path {regex[:20]}", REFUSED, routes({"name": "a", "pathRegex": regex})
        yield f"header {regex[:20]}", REFUSED, routes({"name": "a", "headers": [{"x": regex}]})
    yield "a regex that compiles to too much", LEFT_TO_EGRESSD, routes({"name": "a", "pathRegex": r"[\pL\pN]{900}"})
    yield "two headers in an item", REFUSED, routes({"name": "a", "headers": [{"x": "1", "y": "2"}]})
    yield "no header in an item", REFUSED, routes({"name": "a", "headers": [{}]})
    yield "no name of a header", REFUSED, routes({"name": "a", "headers": [{"x y": "1"}]})
    yield "header with marks", ACCEPTED, routes({"name": "a", "headers": [{"x!#$%&'*+-.^_`|~1": "1"}]})
    yield "header no string", REFUSED, routes({"name": "a", "headers": [{"x": 1}]})
    yield "unknown field of a match", REFUSED, routes({"name": "a", "path": "/a"})
    yield "unknown field of the spec", REFUSED, routes(match=[])


def setting_cases():
    yield "host only", ACCEPTED, setting()
    yield "no host", REFUSED, without(setting(), "spec", "host")
    yield "every limit", ACCEPTED, connections(
        {"maxConnections": 1, "connectTimeout": "5s"},
        {"maxRequests": 1, "maxRequestsPerConnection": 0, "maxPendingRequests": 3, "maxRetries": 4, "circuitBreaking": {}})
    for count in (0, 1, 4294967295):
        yield f"count {count}", ACCEPTED, connections({"maxConnections": count})
    for count in (-1, 4294967296, "1", 1.5):
        yield f"count {count!r}", REFUSED, connections({"maxConnections": count})
        yield f"requests {count!r}", REFUSED, connections(http={"maxRequests": count})
    for duration in ("5s", "1m30s", "250ms", ".5s", "1.5h", "1ns", "10us", "10\u00b5s"):
        yield f"duration {duration}", ACCEPTED, connections({"connectTimeout": duration})
    for duration in ("", "5", "0", "0s", "-5s", "+5s", "5 s", "5d", "s", "1200h", 5):
        yield f"duration {duration!r}", REFUSED, connections({"connectTimeout": duration})
    yield "unknown limit", REFUSED, connections({"maxConnection": 1})
    yield "unknown limit of requests", REFUSED, connections(http={"maxRequest": 1})
    yield "unknown settings", REFUSED, connections(udp={})
    yield "unknown field", REFUSED, setting(connectionSetting={})
    yield "rate limits", ACCEPTED, setting(
        rateLimit={"local": {"http": {"requests": 1, "unit": "second", "responseHeadersToAdd": [{"name": "a", "value": "b"}]}}},
        httpRoutes=[{"path": "/a", "rateLimit": {"local": {"requests": 5, "unit": "minute"}}}])
    yield "rate limit of nothing", REFUSED, setting(rateLimit={"local": {"tcp": {"connections": 0}}})
    yield "status out of range", REFUSED, setting(rateLimit={"local": {"http": {"responseStatusCode": 600}}})


def mesh_config_cases():
    yield "empty", ACCEPTED, mesh_config()
    yield "no spec", ACCEPTED, without(mesh_config(), "spec")
    yield "v1alpha1", ACCEPTED, mesh_config("config.openservicemesh.io/v1alpha1", traffic={"enableEgress": True})
    yield "switches and lists", ACCEPTED, mesh_config(
        traffic={"enableEgress": False, "outboundIPRangeExclusionList": ["198.51.100.0/24", "2001:db8::/32"],
                 "outboundIPRangeInclusionList": [], "outboundPortExclusionList": [1, 65535]},
        featureFlags={"enableEgressPolicy": True})
    for field in ("outboundIPRangeExclusionList", "outboundIPRangeInclusionList"):
        yield f"{field} with host bits", REFUSED, mesh_config(traffic={field: ["198.51.100.1/24"]})
        yield f"{field} with a name", REFUSED, mesh_config(traffic={field: ["a.example"]})
    yield "port out of range", REFUSED, mesh_config(traffic={"outboundPortExclusionList": [65536]})
    yield "a string for a switch", REFUSED, mesh_config(traffic={"enableEgress": "true"})
    yield "fields of OSM without effect", ACCEPTED, mesh_config(
        sidecar={"logLevel": "error", "resources": {"limits": {"cpu": "1"}}, "sidecarDrivers": [{"sidecarName": "pipy"}]},
        observability={"tracing": {"enable": False, "port": 9411}}, certificate={"certKeyBitSize": 2048},
        pluginChains={"inbound-tcp": [{"plugin": "a", "priority": 1.5}]}, repoServer={"codebase": "x"},
        clusterSet={"properties": [{"name": "a", "value": "b"}]})


def cases():
    """(name, verdict, manifest)"""
    for group in (shipped, egress_cases, route_cases, setting_cases, mesh_config_cases):
        for name, verdict, manifest in group():
            yield f"{manifest['kind']}: {name}", verdict, manifest
