"""Objects as dictionaries, as egressd reads them from JSON manifests."""

POLICY = "policy.openservicemesh.io/v1alpha1"
ROUTES = "specs.smi-spec.io/v1alpha4"


def port(number, protocol):
    return {"number": number, "protocol": protocol}


def egress(name, *ports, hosts=(), addresses=(), routes=(), settings=(), account="curl", namespace="curl"):
    """An Egress of one ServiceAccount; routes and settings name objects of the same namespace."""
    spec = {"sources": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}], "ports": list(ports)}
    if hosts:
        spec["hosts"] = list(hosts)
    if addresses:
        spec["ipAddresses"] = list(addresses)
    matches = [{"apiGroup": ROUTES, "kind": "HTTPRouteGroup", "name": route} for route in routes]
    matches += [{"apiGroup": POLICY, "kind": "UpstreamTrafficSetting", "name": setting} for setting in settings]
    if matches:
        spec["matches"] = matches
    return {"apiVersion": POLICY, "kind": "Egress", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def route_group(name, *matches, namespace="curl"):
    """matches: dictionaries as in HTTPRouteGroup.spec.matches, without their names."""
    named = [{"name": f"m{i}", **match} for i, match in enumerate(matches)]
    return {"apiVersion": ROUTES, "kind": "HTTPRouteGroup", "metadata": {"name": name, "namespace": namespace},
            "spec": {"matches": named}}


def traffic_setting(name, tcp=None, http=None, namespace="curl"):
    connection = {key: value for key, value in (("tcp", tcp), ("http", http)) if value is not None}
    return {"apiVersion": POLICY, "kind": "UpstreamTrafficSetting", "metadata": {"name": name, "namespace": namespace},
            "spec": {"host": "outside.test", "connectionSettings": connection}}


def mesh_config(**spec):
    return {"apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
            "metadata": {"name": "osm-mesh-config", "namespace": "osm-system"}, "spec": spec}


def namespace(name, enrolled=True):
    labels = {"openservicemesh.io/monitored-by": "osm"} if enrolled else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(name, namespace_name, account, netns, cgroup, addresses):
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace_name,
                         "annotations": {"egressd.io/netns": str(netns), "egressd.io/cgroup": str(cgroup)}},
            "spec": {"serviceAccountName": account, "nodeName": "node-1",
                     "containers": [{"name": "main", "image": "none"}]},
            "status": {"phase": "Running", "podIP": addresses[0], "podIPs": [{"ip": a} for a in addresses]}}
