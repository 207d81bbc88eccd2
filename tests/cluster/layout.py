"""Addresses and names of the cluster.

    control  192.0.2.1     API server on 443, also 10.96.0.1; name server 10.96.0.10; the bridge that joins all
    node1    192.0.2.11    pods 10.244.1.0/24
    node2    192.0.2.12    pods 10.244.2.0/24
    outside  192.0.2.254   198.51.100.0/24 and 203.0.113.0/24, every address with every server

There is no kube-proxy: of the Services only those two of the control plane have an address that answers.
"""

CONTROL, OUTSIDE = "192.0.2.1", "192.0.2.254"
POD_CIDR, SERVICE_CIDR = "10.244.0.0/16", "10.96.0.0/12"
API_SERVICE, DNS_SERVICE = "10.96.0.1", "10.96.0.10"
API_SERVER = f"https://{CONTROL}:443"
WORLD_RANGES = ("198.51.100.0/24", "203.0.113.0/24")
HOSTS = {"httpbin.org": "198.51.100.10", "openservicemesh.io": "198.51.100.20", "mysql.example": "198.51.100.40",
         "other.example": "203.0.113.10"}
CLUSTER_HOSTS = {"kubernetes.default.svc.cluster.local": API_SERVICE}
PAUSE_IMAGE, POD_IMAGE = "localhost/pause:1", "localhost/curl:1"
MOST_NODES = 9


def node_name(number):
    return f"node{number}"


def node_address(number):
    return f"192.0.2.{10 + number}"


def pod_range(number):
    return f"10.244.{number}.0/24"
