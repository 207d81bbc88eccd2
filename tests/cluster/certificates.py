"""The cluster's own certificate authority, and kubeconfigs whose users are told by client certificates."""

import json
import pathlib

from support.namespaces import run

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Keys and certificates in one folder: NAME.key, NAME.crt."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        run("openssl", "req", "-x509", *_KEY, "-days", "365", "-subj", "/CN=cluster", "-keyout", self.key("ca"), "-out",
            self.certificate("ca"))

    def key(self, name):
        return self.folder / f"{name}.key"

    def certificate(self, name):
        return self.folder / f"{name}.crt"

    def issue(self, name, user, group=None, alternatives=()):
        """A certificate for a user of a group; alternatives: "IP:..." and "DNS:..." of a server."""
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("extendedKeyUsage=clientAuth,serverAuth\n"
                              + (f"subjectAltName={','.join(alternatives)}\n" if alternatives else ""), encoding="ascii")
        request = self.folder / f"{name}.csr"
        run("openssl", "req", "-new", *_KEY, "-subj", subject, "-keyout", self.key(name), "-out", request)
        run("openssl", "x509", "-req", "-days", "365", "-in", request, "-CA", self.certificate("ca"), "-CAkey",
            self.key("ca"), "-CAcreateserial", "-extfile", extensions, "-out", self.certificate(name))
        for used in (extensions, request):
            used.unlink()

    def signing_key(self, name):
        """A key for the tokens of ServiceAccounts: NAME.key, NAME.pub."""
        run("openssl", "genrsa", "-out", self.key(name), "2048")
        run("openssl", "rsa", "-in", self.key(name), "-pubout", "-out", self.folder / f"{name}.pub")

    def kubeconfig(self, path, name, server):
        """A kubeconfig for the user of certificate `name`. It is JSON, which YAML contains."""
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "cluster",
                  "clusters": [{"name": "cluster", "cluster": {"server": server, "certificate-authority":
                                                               str(self.certificate("ca"))}}],
                  "users": [{"name": name, "user": {"client-certificate": str(self.certificate(name)),
                                                    "client-key": str(self.key(name))}}],
                  "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": name}}]}
        pathlib.Path(path).write_text(json.dumps(config, indent=2) + "\n", encoding="ascii")
