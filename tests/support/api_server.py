"""A small API server: lists with pages, watches with bookmarks, and every fault that a test wants.

It keeps objects as they are and checks nothing. Versions count up by one with each change. What a real server does that
no fault of the network causes (admission, conversion, caches) is left to the tests on a real cluster.
"""

import base64
import collections
import contextlib
import copy
import http.server
import json
import pathlib
import re
import socket
import ssl
import threading
import urllib.parse

KINDS = {  # (group/version, plural) of a kind
    "MeshConfig": ("config.openservicemesh.io/v1alpha2", "meshconfigs"),
    "Namespace": ("v1", "namespaces"),
    "HTTPRouteGroup": ("specs.smi-spec.io/v1alpha4", "httproutegroups"),
    "UpstreamTrafficSetting": ("policy.openservicemesh.io/v1alpha1", "upstreamtrafficsettings"),
    "Egress": ("policy.openservicemesh.io/v1alpha1", "egresses"),
    "Pod": ("v1", "pods"),
    "Node": ("v1", "nodes"),
    "Service": ("v1", "services"),
    "Event": ("v1", "events"),
}
CLUSTER_SCOPED = ("Namespace", "Node")

Request = collections.namedtuple("Request", "method path query headers body")
_PATH = re.compile(r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?:/namespaces/(?P<ns>[^/]+)(?=/))?/(?P<plural>[^/]+)"
                   r"(?:/(?P<name>[^/]+))?")


class Answer(Exception):
    """Raised by a fault: this is the answer. `raw`: bytes to write instead of one, before the connection is closed."""

    def __init__(self, status=503, message="", headers=(), raw=None):
        super().__init__(status)
        self.status, self.message, self.headers, self.raw = status, message, headers, raw


class ApiServer:
    """Listens on `listener`, or on a port of loopback. `context`: TLS. `tokens`: those that are let in; None: all."""

    def __init__(self, listener=None, context=None, tokens=None):
        self.objects = {kind: {} for kind in KINDS}
        self.absent = set()  # kinds without a CustomResourceDefinition
        self.versions = {}  # kind -> group/version served in place of that in KINDS
        self.history, self.version, self.oldest = [], 1000, 0
        self.requests = []
        self.fault = lambda request: None
        self.on_watch = lambda kind, write: None  # called with a function that writes raw bytes to the open stream
        self.tokens = tokens
        self.lock = threading.Condition()
        self.streams = set()
        self.context = context
        self.listener = listener or socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()[:2]
        self.server = None
        self.start()

    # ---- Its life ----

    def start(self):
        api = self

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                connection, address = self.socket.accept()
                if api.context:
                    connection = api.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                return connection, address

            def handle_error(self, request, client_address):
                pass  # a client that went away

        self.server = Server(self.address, _handler(self), bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = self.listener
        self.listener.listen(64)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def cut(self):
        """Resets every connection."""
        with self.lock:
            for stream in list(self.streams):
                with contextlib.suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)

    def stop(self, listener=True):
        """Goes away: connections are cut, and new ones refused."""
        self.server.shutdown()
        if listener:
            self.listener.close()
        self.cut()
        self.thread.join()

    def restart(self, make_listener=None):
        self.listener = make_listener() if make_listener else socket.create_server(self.address)
        self.start()

    # ---- Its objects ----

    @staticmethod
    def key(item):
        meta = item["metadata"]
        return ("" if item["kind"] in CLUSTER_SCOPED else meta.get("namespace", "default"), meta["name"])

    def apply(self, *items):
        """Creates or replaces; returns the versions that they got."""
        versions = []
        with self.lock:
            for item in items:
                versions.append(self._put(copy.deepcopy(item)))
            self.lock.notify_all()
        return versions

    def _put(self, item):
        known = self.objects[item["kind"]]
        key = self.key(item)
        before = known.get(key)
        self.version += 1
        meta = item["metadata"]
        if item["kind"] not in CLUSTER_SCOPED:
            meta.setdefault("namespace", "default")
        meta["resourceVersion"] = str(self.version)
        meta["uid"] = before["metadata"]["uid"] if before else meta.get("uid", f"uid-{self.version}")
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        meta["generation"] = before["metadata"]["generation"] + 1 if before else 1
        meta["managedFields"] = [{"manager": "test", "operation": "Update", "fieldsV1": {"f:spec": {}}}]
        known[key] = item
        self.history.append((self.version, item["kind"], "MODIFIED" if before else "ADDED", copy.deepcopy(item)))
        return meta["resourceVersion"]

    def delete(self, *items):
        with self.lock:
            for item in items:
                gone = self.objects[item["kind"]].pop(self.key(item), None)
                if gone is None:
                    continue
                self.version += 1
                gone = copy.deepcopy(gone)
                gone["metadata"]["resourceVersion"] = str(self.version)
                self.history.append((self.version, item["kind"], "DELETED", gone))
            self.lock.notify_all()

    def compact(self):
        """Versions before now are too old to be watched from."""
        with self.lock:
            self.oldest = self.version
            self.history.clear()

    def snapshot(self):
        with self.lock:
            return copy.deepcopy(self.objects), self.version

    def restore(self, snapshot, writes=0):
        """As etcd from a backup: versions go back. `writes`: how many others have made before anybody asks."""
        with self.lock:
            self.objects, version = copy.deepcopy(snapshot)
            self.version = version + writes
            self.history.clear()
            self.oldest = 0

    def seen(self, pattern):
        """The requests so far whose method, path and query match."""
        with self.lock:
            return [request for request in self.requests
                    if re.search(pattern, f"{request.method} {request.path}?{urllib.parse.urlencode(request.query)}")]

    def kubeconfig(self, path, host=None, user=None, **cluster):
        """Writes a kubeconfig that leads here."""
        scheme = "https" if self.context else "http"
        path = pathlib.Path(path)
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {
                "server": f"{scheme}://{host or self.address[0]}:{self.address[1]}", **cluster}}],
            "users": [{"name": "test", "user": user or {}}]}), encoding="utf-8")
        return path

    # ---- Answers ----

    def served(self, group_version):
        return [kind for kind, (default, _) in KINDS.items()
                if kind not in self.absent and self.versions.get(kind, default) == group_version]

    def kind_of(self, group_version, plural):
        for kind in self.served(group_version):
            if KINDS[kind][1] == plural:
                return kind
        raise Answer(404, "the server could not find the requested resource")

    def selected(self, kind, query, namespace):
        wanted = query.get("fieldSelector", "")
        for (ns, _), item in sorted(self.objects[kind].items()):
            if namespace and ns != namespace:
                continue
            if self.matches(item, wanted) and self.labelled(item, query.get("labelSelector", "")):
                yield item

    @staticmethod
    def matches(item, selector):
        found = {"spec.nodeName": item.get("spec", {}).get("nodeName", ""), "metadata.name": item["metadata"]["name"]}
        return all(found[field] == value for field, value in (one.split("=", 1) for one in selector.split(",") if one))

    @staticmethod
    def labelled(item, selector):
        """Of one label: that it is there, or what it is."""
        name, _, value = selector.partition("=")
        labels = item["metadata"].get("labels", {})
        return not selector or (name in labels and value in ("", labels[name]))

    def list(self, kind, group_version, query, namespace):
        with self.lock:
            start = 0
            version = self.version
            if "continue" in query:
                token = json.loads(base64.urlsafe_b64decode(query["continue"]))
                if token["version"] < self.oldest:
                    raise Answer(410, "the provided continue parameter is too old")
                start, version = token["start"], token["version"]
            items = list(self.selected(kind, query, namespace))
            limit = int(query.get("limit", 0)) or len(items)
            page = items[start:start + limit]
            metadata = {"resourceVersion": str(version)}
            if start + limit < len(items):
                token = json.dumps({"version": version, "start": start + limit}).encode()
                metadata["continue"] = base64.urlsafe_b64encode(token).decode()
                if not query.keys() & {"fieldSelector", "labelSelector"}:
                    metadata["remainingItemCount"] = len(items) - start - limit
            # As the real one does, the items of core kinds say nothing of their kind.
            strip = ("kind", "apiVersion") if group_version == "v1" else ()
            return {"kind": kind + "List", "apiVersion": group_version, "metadata": metadata,
                    "items": [{key: value for key, value in item.items() if key not in strip} for item in page]}


def _handler(api):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 0

        def setup(self):
            with api.lock:
                api.streams.add(self.request)
            super().setup()

        def finish(self):
            with api.lock:
                api.streams.discard(self.request)
            super().finish()

        def log_message(self, *args):
            pass

        def do_GET(self):
            self.answer()

        do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

        def answer(self):
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(self.command, url.path, query, dict(self.headers), self.rfile.read(length))
            with api.lock:
                api.requests.append(request)
                api.lock.notify_all()
            try:
                self.authorize()
                api.fault(request)
                self.dispatch(request)
            except Answer as answer:
                if answer.raw is not None:
                    self.wfile.write(answer.raw)
                    self.close_connection = True
                    return
                self.send_json(answer.status, {"kind": "Status", "apiVersion": "v1", "status": "Failure",
                                               "message": answer.message, "code": answer.status}, answer.headers)

        def authorize(self):
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if api.tokens is not None and given not in api.tokens:
                raise Answer(401, "Unauthorized")

        def send_json(self, status, body, headers=()):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def dispatch(self, request):
            found = _PATH.fullmatch(request.path)
            if not found:
                return self.discover(request.path)
            group_version = f"{found['group']}/{found['version']}" if found["group"] else found["version"]
            kind = api.kind_of(group_version, found["plural"])
            if found["name"]:
                return self.one(request, kind, (found["ns"] or "", found["name"]))
            if request.method == "POST":
                return self.create(request, kind, found["ns"])
            if request.query.get("watch") in ("1", "true"):
                return self.watch(request, kind)
            return self.send_json(200, api.list(kind, group_version, request.query, found["ns"]))

        def discover(self, path):
            group_version = path.removeprefix("/apis/").removeprefix("/api/")
            kinds = api.served(group_version)
            if not kinds:
                raise Answer(404, "the server could not find the requested resource")
            self.send_json(200, {"kind": "APIResourceList", "groupVersion": group_version,
                                 "resources": [{"name": KINDS[kind][1], "kind": kind} for kind in kinds]})

        def one(self, request, kind, key):
            with api.lock:
                item = copy.deepcopy(api.objects[kind].get(key))
            if item is None:
                raise Answer(404, f"{KINDS[kind][1]} \"{key[1]}\" not found")
            if request.method == "PATCH":
                patch = json.loads(request.body)
                if "json-patch" in request.headers["Content-Type"]:
                    item = _patch(item, patch)
                else:
                    assert "merge-patch" in request.headers["Content-Type"], request.headers
                    item = _merge(item, patch)
                api.apply(item)
            self.send_json(200, item)

        def create(self, request, kind, namespace):
            item = json.loads(request.body)
            item["metadata"].setdefault("namespace", namespace)
            with api.lock:
                if api.key(item) in api.objects[kind]:
                    raise Answer(409, "already exists")
                api.apply(item)
            self.send_json(201, item)

        def watch(self, request, kind):
            position = int(request.query["resourceVersion"])
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if position < api.oldest:
                self.write_event("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
                return self.write_chunk(b"")
            api.on_watch(kind, self.write_chunk)
            selector = request.query.get("fieldSelector", "")
            while True:
                with api.lock:
                    new = [entry for entry in api.history if entry[0] > position and entry[1] == kind]
                    if not new and not api.lock.wait(1.0) and self.gone():
                        self.close_connection = True
                        return None
                for version, _, event, item in new:
                    if api.matches(item, selector):
                        self.write_event(event, item)
                    position = version

        def gone(self):
            return self.request not in api.streams or self.request.fileno() < 0

        def write_event(self, event, item):
            self.write_chunk(json.dumps({"type": event, "object": item}).encode() + b"\n")

        def write_chunk(self, data):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    return Handler


def _patch(item, operations):
    """A JSON patch (RFC 6902) of test and remove."""
    for operation in operations:
        *way, last = operation["path"].strip("/").split("/")
        at = item
        for step in way:
            at = at[int(step) if isinstance(at, list) else step]
        last = int(last) if isinstance(at, list) else last
        if operation["op"] == "test" and at[last] != operation["value"]:
            raise Answer(422, "the patch's test failed")
        if operation["op"] == "remove":
            del at[last]
    return item


def _merge(target, patch):
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            target[key] = _merge(target.get(key) or {}, value)
        else:
            target[key] = value
    return target


def tls_context(certificate, key, client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
