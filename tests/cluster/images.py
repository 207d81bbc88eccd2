"""Images made from programs of this host, as archives that `ctr images import` reads: no registry is needed."""

import hashlib
import io
import json
import pathlib
import shutil
import stat
import subprocess
import tarfile

from support.namespaces import run

_FILES = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
          "etc/group": "root:x:0:\nnogroup:x:65534:\n",
          "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n"}


def compile_init(target):
    """The program init.c."""
    run("cc", "-O2", "-Wall", "-Wextra", "-static", "-s", "-o", target, pathlib.Path(__file__).with_name("init.c"))


def _libraries(program):
    """The shared libraries that a program needs, with the loader; absolute paths."""
    words = [word for line in run("ldd", program).splitlines() for word in line.split()]
    return sorted({word for word in words if word.startswith("/")})


class Layer:
    """A file system as a tar archive in memory."""

    def __init__(self):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w")
        self.folders = set()

    def _folder(self, path):
        for folder in reversed(pathlib.PurePosixPath(path).parents):
            if str(folder) != "." and folder not in self.folders:
                self.folders.add(folder)
                self._entry(str(folder), tarfile.DIRTYPE, 0o755)

    def _entry(self, path, kind, mode, data=b"", target=""):
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), target
        self.tar.addfile(entry, io.BytesIO(data))

    def file(self, path, data, mode=0o644):
        self._folder(path)
        self._entry(path, tarfile.REGTYPE, mode, data)

    def copy(self, source, path=None):
        source = pathlib.Path(source)
        self.file(path or str(source).lstrip("/"), source.read_bytes(), stat.S_IMODE(source.stat().st_mode))

    def link(self, path, target):
        self._folder(path)
        self._entry(path, tarfile.SYMTYPE, 0o777, target=target)

    def bytes(self):
        self.tar.close()
        return self.buffer.getvalue()


def write_archive(archive, name, layer, command):
    """An image of one layer, in the format of `docker save`."""
    data = layer.bytes()
    config = json.dumps({"architecture": run("dpkg", "--print-architecture").strip(), "os": "linux",
                         "config": {"Cmd": command, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
                         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest()]}})
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}])
    with tarfile.open(archive, "w") as tar:
        for path, content in (("layer.tar", data), ("config.json", config.encode()),
                              ("manifest.json", manifest.encode())):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def write_pause(archive, name, init):
    """What holds the namespaces of a pod."""
    layer = Layer()
    layer.copy(init, "pause")
    write_archive(archive, name, layer, ["/pause"])


def write_pod(archive, name):
    """A shell with busybox's tools, and curl; waits until it is ended."""
    layer = Layer()
    busybox, curl, getent = (shutil.which(program) for program in ("busybox", "curl", "getent"))
    layer.copy(busybox, "bin/busybox")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            layer.link(f"bin/{applet}", "busybox")
    for program in (curl, getent):
        layer.copy(program)
    for library in sorted(set(_libraries(curl)) | set(_libraries(getent))):
        layer.copy(library)
    for path, text in _FILES.items():
        layer.file(path, text.encode())
    layer.file("tmp/.empty", b"")
    write_archive(archive, name, layer, ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"])
