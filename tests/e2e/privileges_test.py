"""What the programs may do: the capabilities that the agent keeps, what the proxy is left with, and where its sockets lead."""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import clients
from support.case import WorldCase, main, tcp_port
from support.manifests import egress, port
from support.world import HTTP_PORT, MESH, ORIGIN, OTHER, TLS_PORT

# As README, "Least privilege", names them, and capabilities.cc: the number of each as in linux/capability.h.
NEEDED = {"kill": 5, "setgid": 6, "setuid": 7, "setpcap": 8, "net_admin": 12, "sys_chroot": 18, "sys_ptrace": 19,
          "sys_admin": 21, "perfmon": 38, "bpf": 39}
MASK = sum(1 << number for number in NEEDED.values())
SO_NETNS_COOKIE, MSG_FASTOPEN, SYS_PIDFD_GETFD = 71, 0x20000000, 438
RULES = egress("rules", port(HTTP_PORT, "http"), port(TLS_PORT, "https"), tcp_port(5000), hosts=["allowed.test"])


def status_of(pid):
    """/proc/PID/status as a dictionary."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return {name: value.split() for name, value in (line.split(":", 1) for line in lines)}


class AgentWithOnlyWhatItNeeds(WorldCase):
    """Started with no other capability than those, as a container that is given just them."""

    OBJECTS = (RULES,)
    START = False

    def start_with(self, capabilities):
        command = self.agent.command()
        at = command.index("setpriv")
        bounding = ",".join(["-all", *(f"+{name}" for name in capabilities)])
        command[at:at] = ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all"]
        self.agent.command = lambda *_, **__: command
        self.addCleanup(self.agent.__dict__.pop, "command")
        self.agent.spawn()

    def test_it_does_all_of_its_work(self):
        self.start_with(NEEDED)
        self.agent.wait_ready()
        self.addCleanup(self.agent.stop)
        self.assert_reaches(ORIGIN, 5000)
        self.assert_refused(ORIGIN, 5001)
        self.assert_tls_passes("allowed.test")
        self.assert_tls_reset("denied.test")
        self.assertEqual(self.get().status, 200)
        self.assert_request_denied(404, host="denied.test")
        self._pods_come_and_go()
        self._connections_are_cut()
        before = self.agent.status()["proxy"]
        os.kill(before["pid"], signal.SIGKILL)
        self.eventually("the proxy is back", lambda: self.agent.status()["proxy"]["restarts"] > before["restarts"]
                        and self.agent.page("/readyz")[0] == 200)
        self.assertEqual(self.get().status, 200)
        self.assertNotRegex(self.agent.log(), "not permitted|denied:")

    def _pods_come_and_go(self):
        """By the path of a namespace, and by a process of the pod."""
        for name in ("bound", "process"):
            pod = self.world.add_pod(name, account="curl")
            item = pod.manifest()
            if name == "process":
                item["metadata"]["annotations"]["egressd.io/netns"] = f"/proc/{pod.sockets.process.pid}/ns/net"
            self.agent.apply(item)
            self.eventually("it is governed", lambda pod=pod: (self.agent.pod_status(pod.key) or {}).get("governed"))
            self.assert_reaches(ORIGIN, 5000, pod)
            self.assert_refused(ORIGIN, 5001, pod)
            self.assertEqual(self.get(pod=pod).status, 200)
            self.agent.delete(item)
            pod.close()
            self.eventually("it is gone", lambda pod=pod: self.agent.pod_status(pod.key) is None, 10)

    def _connections_are_cut(self):
        going = egress("going", tcp_port(5002))
        self.agent.apply(going)
        with self.pod.connect(ORIGIN, 5002) as live:
            clients.exchange(live)
            self.agent.delete(going)
            with self.assertRaises(ConnectionError):
                live.recv(1)

    def test_what_it_lacks_is_named_with_its_purpose(self):
        for missing in NEEDED:
            with self.subTest(missing):
                self.start_with([name for name in NEEDED if name != missing])
                self.assertEqual(self.agent.process.wait(30), 2)
                self.assertIn(f"CAP_{missing.upper()} (", self.agent.log().splitlines()[-1])
                self.doCleanups()

    def test_of_all_that_it_is_given_it_keeps_only_those(self):
        self.agent.start()
        self.addCleanup(self.agent.stop)
        status = status_of(self.agent.process.pid)
        for line, mask in (("CapPrm", MASK), ("CapEff", MASK), ("CapBnd", MASK), ("CapInh", 0), ("CapAmb", 0)):
            self.assertEqual(int(status[line][0], 16), mask, line)
        self.assertEqual(status["NoNewPrivs"], ["1"])
        for thread in os.listdir(f"/proc/{self.agent.process.pid}/task"):
            caps = status_of(f"{self.agent.process.pid}/task/{thread}")
            self.assertEqual(int(caps["CapEff"][0], 16) & ~MASK, 0)


class ProxyIsConfined(WorldCase):
    OBJECTS = (RULES,)

    def test_it_has_no_privilege_no_files_and_no_way_back(self):
        self.assertEqual(self.get().status, 200)
        pid = self.agent.proxy_pid()
        for task in [pid, *(f"{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task"))]:
            status = status_of(task)
            for line in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
                self.assertEqual(int(status[line][0], 16), 0, line)
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"], status["Groups"]), (["1"], ["2"], []))
            self.assertEqual(set(status["Uid"] + status["Gid"]), {"65529"})
        self.assertEqual(os.listdir(f"/proc/{pid}/root"), [])
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
        self.assertRegex(limits, r"Max processes +0 +0")
        self.assertRegex(limits, r"Max core file size +0 +0")
        for kind in ("net", "mnt", "ipc"):
            self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/{kind}"),
                                os.readlink(f"/proc/{self.agent.process.pid}/ns/{kind}"))

    def test_it_holds_no_file_but_its_log(self):
        pid = self.agent.proxy_pid()
        links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        paths = {link for link in links if link.startswith("/")} - {"/dev/null", str(self.agent.log_file)}
        self.assertEqual(paths, set())

    def test_it_dies_with_its_agent(self):
        pidfd = os.pidfd_open(self.agent.proxy_pid())
        self.addCleanup(os.close, pidfd)
        self.agent.stop(signal.SIGKILL)
        import select
        self.assertTrue(select.select([pidfd], [], [], 10)[0])
        self.agent.start()
        self.assertEqual(self.get().status, 200)


class WhereHandedSocketsLead(WorldCase):
    """The sockets that the proxy has been handed, taken from it: whoever holds them, the kernel judges each connect."""

    OBJECTS = (egress("rules", port(HTTP_PORT, "http"), hosts=["allowed.test"], addresses=[f"{ORIGIN}/32"]),
               egress("tcp", tcp_port(5000)),
               egress("secure", port(TLS_PORT, "https"), hosts=["allowed.test"]),
               egress("others", port(HTTP_PORT, "http"), hosts=["allowed.test"], addresses=[f"{OTHER}/32"],
                      account="second"))

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.second = cls.world.add_pod("second")
        cls.agent.apply(cls.second.manifest())

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def handed(self, pod):
        """An upstream socket of the pod that the proxy has and has not used, duplicated from it; None where it has none.

        The first that there is: the proxy takes the last."""
        cookie = self._cookie(pod)
        pid = self.agent.proxy_pid()
        pidfd = os.pidfd_open(pid)
        self.stack.callback(os.close, pidfd)
        for fd in map(int, os.listdir(f"/proc/{pid}/fd")):
            copy = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)
            if copy < 0:
                continue
            if not os.readlink(f"/proc/self/fd/{copy}").startswith("socket:"):
                os.close(copy)
                continue
            sock = self.stack.enter_context(socket.socket(fileno=copy))
            if sock.family == socket.AF_INET and self._unused(sock) and self._cookie_of(sock) == cookie:
                sock.settimeout(5)
                return sock
        return None

    @staticmethod
    def _unused(sock):
        TCP_CLOSE = 7
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE

    @staticmethod
    def _cookie_of(sock):
        return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)

    def _cookie(self, pod):
        with pod.socket() as sock:
            return self._cookie_of(sock)

    def take(self, pod, address, number=HTTP_PORT):
        """Makes the proxy ask for sockets by a request of the pod, then takes one."""
        self.assertEqual(self.get(address=address, number=number, pod=pod).status, 200)
        return self.eventually("the proxy has sockets to spare", lambda: self.handed(pod))

    def assert_leads_nowhere(self, sock, address, number, pod):
        position = self.world.wire.position()
        with self.assertRaises((ConnectionError, PermissionError), msg=f"{address} port {number}"):
            sock.connect((address, number))
        self.assert_nothing_arrived(position, address, number, pod)

    def assert_serves(self, sock, address, number=HTTP_PORT):
        sock.connect((address, number))
        connection = clients.Http(sock)
        self.assertEqual(connection.ask().status, 200)

    def test_to_what_http_rules_of_their_pod_cover(self):
        self.assert_serves(self.take(self.pod, ORIGIN), ORIGIN)
        self.assert_serves(self.take(self.second, OTHER), OTHER)

    def test_to_nothing_else_that_the_pod_itself_may_reach_or_not(self):
        for address, number in ((OTHER, HTTP_PORT), (ORIGIN, 5001), (ORIGIN, 5000), (ORIGIN, TLS_PORT), (MESH, HTTP_PORT)):
            with self.subTest(f"{address}:{number}"):
                self.assert_leads_nowhere(self.take(self.pod, ORIGIN), address, number, self.pod)

    def test_to_nothing_of_another_pod(self):
        self.assert_leads_nowhere(self.take(self.pod, ORIGIN), OTHER, HTTP_PORT, self.pod)
        self.assert_leads_nowhere(self.take(self.second, OTHER), ORIGIN, HTTP_PORT, self.second)
        sock = self.take(self.pod, ORIGIN)
        position = self.world.wire.position()
        with self.assertRaises(OSError):
            sock.connect((self.second.v4, 5000))
        self.assert_nothing_arrived(position, OTHER, HTTP_PORT, self.pod)

    def test_not_with_data_in_the_first_packet(self):
        sock = self.take(self.pod, ORIGIN)
        position = self.world.wire.position()
        with self.assertRaises((ConnectionError, PermissionError)):
            sock.sendto(b"out", MSG_FASTOPEN, (OTHER, HTTP_PORT))
        self.assert_nothing_arrived(position, OTHER, HTTP_PORT, self.pod)

    def test_not_after_a_connection_that_was_covered(self):
        sock = self.take(self.pod, ORIGIN)
        self.assert_serves(sock, ORIGIN)
        unspecified = (ctypes.c_char * 16)()
        self.assertEqual(ctypes.CDLL(None, use_errno=True).connect(sock.fileno(), unspecified, 16), 0)
        self.assert_leads_nowhere(sock, OTHER, HTTP_PORT, self.pod)

    def test_not_after_the_rule_has_gone(self):
        passing = egress("passing", port(8081, "http"), hosts=["allowed.test"])
        self.world.serve(8081, self.world.origin)
        self.apply(passing)
        self.assert_serves(self.take(self.pod, ORIGIN), ORIGIN, 8081)
        self.agent.delete(passing)
        self.assert_leads_nowhere(self.take(self.pod, ORIGIN), ORIGIN, 8081, self.pod)


if __name__ == "__main__":
    main()
