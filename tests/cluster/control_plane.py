"""The machine that the control plane runs on: etcd, API server, controllers, scheduler, and the cluster's name server."""

import json
import shutil
import signal
import subprocess

from cluster import layout
from cluster.certificates import Authority
from cluster.machine import Machine, wait_until
from support import namespaces


class ControlPlane(Machine):
    """binaries: the folder with the programs of Kubernetes. The admin's kubeconfig is `kubeconfig`."""

    def __init__(self, prefix, home, init, binaries):
        super().__init__(prefix, "control", home, init)
        self.binaries, self.kubeconfig = binaries, home / "admin.kubeconfig"
        self.authority = self.audit_policy = self.audit_log = None

    # ---- Making ----

    def make_network(self):
        super().make_network()
        namespaces.ip(self.netns, f"""link add mesh type bridge
            addr add {layout.CONTROL}/24 dev mesh
            link set mesh up
            addr add {layout.API_SERVICE}/32 dev lo
            addr add {layout.DNS_SERVICE}/32 dev lo
            route add default via {layout.OUTSIDE}
            """)

    def connect(self, machine, address, routes=()):
        """Join another machine to the bridge; routes: what is reached through it."""
        namespaces.ip(self.netns, f"link add {machine.name} type veth peer name eth0 netns {machine.netns}\n"
                                  f"link set {machine.name} master mesh up\n")
        namespaces.ip(machine.netns, f"addr add {address}/24 dev eth0\nlink set eth0 up\n"
                                     f"route add {layout.SERVICE_CIDR} via {layout.CONTROL}\n")
        for destination in routes:
            namespaces.ip(self.netns, f"route add {destination} via {address}\n")

    def make_certificates(self, nodes):
        self.authority = authority = Authority(self.home / "pki")
        authority.issue("api-server", "kube-apiserver", alternatives=[
            f"IP:{layout.CONTROL}", f"IP:{layout.API_SERVICE}", "IP:127.0.0.1", "DNS:kubernetes",
            "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:kubernetes.default.svc.cluster.local"])
        authority.issue("admin", "admin", "system:masters")
        authority.issue("controllers", "system:kube-controller-manager")
        authority.issue("scheduler", "system:kube-scheduler")
        for node in nodes:
            authority.issue(node, f"system:node:{node}", "system:nodes")
        authority.signing_key("service-accounts")
        authority.kubeconfig(self.kubeconfig, "admin", layout.API_SERVER)
        for user in ("controllers", "scheduler", *nodes):
            authority.kubeconfig(self.home / "pki" / f"{user}.kubeconfig", user, layout.API_SERVER)

    def write_audit_policy(self):
        """What egressd's agents ask of the API server, and what it answers, goes to audit_log, one JSON object a line."""
        self.audit_policy, self.audit_log = self.home / "audit.json", self.home / "log" / "audit.log"
        self.audit_policy.write_text(json.dumps({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata", "users": ["system:serviceaccount:egressd:egressd"]}, {"level": "None"}]}),
            encoding="ascii")

    def start_all(self):
        self.write_audit_policy()
        self.start_etcd()
        self.start_api_server()
        self.start_dns()
        self.wait_until_ready()
        self._start_controllers()

    # ---- Programs ----

    def start_etcd(self):
        self.start("etcd", "etcd", "--data-dir=/run/etcd", "--log-level=warn",
                   "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
                   "--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
                   "--initial-cluster=default=http://127.0.0.1:2380")

    def compact_etcd(self):
        """etcd forgets all versions but the present ones."""
        def ask(what, question):
            return json.loads(self.run("curl", "-sf", f"http://127.0.0.1:2379/v3/kv/{what}", "-d", json.dumps(question)).stdout)
        revision = ask("range", {"key": "AA=="})["header"]["revision"]
        ask("compaction", {"revision": revision, "physical": True})

    def start_api_server(self):
        authority = self.authority
        self.start("kube-apiserver", self.binaries / "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
                   "--bind-address=0.0.0.0", "--secure-port=443", f"--advertise-address={layout.CONTROL}",
                   "--endpoint-reconciler-type=none", f"--service-cluster-ip-range={layout.SERVICE_CIDR}",
                   f"--client-ca-file={authority.certificate('ca')}",
                   f"--tls-cert-file={authority.certificate('api-server')}",
                   f"--tls-private-key-file={authority.key('api-server')}",
                   f"--kubelet-client-certificate={authority.certificate('admin')}",
                   f"--kubelet-client-key={authority.key('admin')}", "--kubelet-preferred-address-types=InternalIP",
                   f"--service-account-key-file={authority.folder / 'service-accounts.pub'}",
                   f"--service-account-signing-key-file={authority.key('service-accounts')}",
                   "--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=Node,RBAC",
                   "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
                   # Asks what this etcd is too old to answer, again and again.
                   "--feature-gates=SizeBasedListCostEstimate=false",
                   f"--audit-policy-file={self.audit_policy}", f"--audit-log-path={self.audit_log}")

    def stop_api_server(self, signal_number=signal.SIGKILL):
        self.processes["kube-apiserver"].kill(signal_number)

    def restart_api_server(self):
        self.stop_api_server()
        self.start_api_server()
        self.wait_until_ready()

    def start_dns(self):
        names = [f"--address=/{name}/{address}" for name, address in {**layout.HOSTS, **layout.CLUSTER_HOSTS}.items()]
        self.start("dnsmasq", shutil.which("dnsmasq", path="/usr/sbin:/usr/bin"), "--keep-in-foreground",
                   "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=", "--user=root",
                   f"--listen-address={layout.DNS_SERVICE}", "--bind-interfaces", "--local=/#/", *names)

    def _start_controllers(self):
        pki = self.authority.folder
        self.start("kube-controller-manager", self.binaries / "kube-controller-manager",
                   f"--kubeconfig={pki / 'controllers.kubeconfig'}", "--leader-elect=false",
                   f"--root-ca-file={self.authority.certificate('ca')}",
                   f"--service-account-private-key-file={self.authority.key('service-accounts')}",
                   "--use-service-account-credentials=true", "--kube-api-qps=100", "--kube-api-burst=200")
        self.start("kube-scheduler", self.binaries / "kube-scheduler",
                   f"--kubeconfig={pki / 'scheduler.kubeconfig'}", "--leader-elect=false", "--kube-api-qps=100",
                   "--kube-api-burst=200")

    def wait_until_ready(self, seconds=300):
        def ready():
            process = self.processes["kube-apiserver"]
            if process.popen.poll() is not None:
                raise RuntimeError(f"kube-apiserver has ended: {process.tail()}")
            answer = subprocess.run(
                ["nsenter", f"--net={self.netns_path}", "curl", "-s", "-m", "5", "--cacert",
                 self.authority.certificate("ca"), "--cert", self.authority.certificate("admin"), "--key",
                 self.authority.key("admin"), f"{layout.API_SERVER}/readyz"], capture_output=True, check=False)
            return answer.stdout == b"ok"
        wait_until("the API server is ready", ready, seconds, 0.1)

    # ---- kubectl ----

    def kubectl_command(self, *arguments):
        return ["nsenter", f"--net={self.netns_path}", str(self.binaries / "kubectl"),
                f"--kubeconfig={self.kubeconfig}", *map(str, arguments)]
