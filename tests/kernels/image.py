"""Makes the initramfs of a guest: this machine's programs and libraries, a kernel's modules, the build, the tests.

Nothing is installed and nothing copied twice: the archive is written straight from the files where they are. Paths in
the guest are the paths here, so that commands of CTest run as they are.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = pathlib.Path("/usr/bin/python3")
# What tests and programs call; what this machine does not have, busybox may have.
PROGRAMS = ["bash", "bpftool", "curl", "dnsmasq", "env", "ethtool", "findmnt", "ip", "kmod", "mount", "nft", "nsenter",
            "openssl", "setpriv", "sh", "ss", "sysctl", "tc", "umount", "unshare", "wg"]
FILES = ["/etc/group", "/etc/hosts", "/etc/iproute2", "/etc/nsswitch.conf", "/etc/passwd", "/etc/protocols",
         "/etc/services", "/etc/ssl/openssl.cnf", "/usr/lib/ssl/openssl.cnf",
         "/usr/lib/cni/bridge", "/usr/lib/cni/host-local"]
MODULES = ["arch", "crypto", "drivers/net", "lib", "net"]
UNUSED_PYTHON = re.compile(r"/(test|idlelib|tkinter|lib2to3|ensurepip|pydoc_data|turtledemo)(/|$)")
MERGED = ["bin", "lib", "lib64", "sbin"]  # folders that are links to those of /usr


class Archive:
    """A cpio archive in the format `newc` (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self, path):
        self._out, self._names = open(path, "wb"), set()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self._entry("TRAILER!!!", 0, b"")
        self._out.close()

    def _entry(self, name, mode, content, mtime=0):
        """`content` with its header; both are padded to four bytes."""
        encoded = name.encode() + b"\0"
        fields = [len(self._names), mode, 0, 0, 1, mtime, len(content), 0, 0, 0, 0, len(encoded), 0]
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._out.write(header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4))

    def _new(self, path):
        """The name of a path that is not yet in the archive, or None; its folders are made."""
        name = str(path).lstrip("/")
        first, _, rest = name.partition("/")
        if first in MERGED and rest:
            name = "usr/" + name
        if name in self._names:
            return None
        parent = os.path.dirname(name)
        if parent:
            self.folder(parent)
        self._names.add(name)
        return name

    def folder(self, path):
        if name := self._new(path):
            self._entry(name, stat.S_IFDIR | 0o755, b"")

    def link(self, path, target):
        if name := self._new(path):
            self._entry(name, stat.S_IFLNK | 0o777, str(target).encode())

    def file(self, path, source=None):
        """What `source` (default: the path itself) holds, links followed."""
        source = pathlib.Path(source or path)
        if name := self._new(path):
            info = source.stat()
            self._entry(name, stat.S_IFREG | stat.S_IMODE(info.st_mode), source.read_bytes(), int(info.st_mtime))

    def text(self, path, content):
        if name := self._new(path):
            self._entry(name, stat.S_IFREG | 0o644, content.encode())

    def tree(self, folder, leave=None):
        """A folder as it is, or a single file."""
        folder = pathlib.Path(folder)
        if not folder.is_dir():
            self.file(folder)
            return
        for where, _, names in os.walk(folder):
            if leave and leave.search(where):
                continue
            self.folder(where)
            for name in names:
                path = pathlib.Path(where) / name
                if path.is_symlink():
                    self.link(path, os.readlink(path))
                elif path.is_file():
                    self.file(path)


def libraries(programs):
    """The shared libraries that programs and libraries load, the dynamic linker included."""
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    return sorted(set(re.findall(r"(?:=> |\t)(/\S+) \(0x", listed)))


def find_programs():
    search = os.pathsep.join(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    return [pathlib.Path(path) for path in (shutil.which(name, path=search) for name in PROGRAMS) if path]


def add_system(archive):
    for name in MERGED:
        archive.folder(f"usr/{name}")
        archive.link(name, f"usr/{name}")
    for name in ["busybox", "dev", "proc", "root", "run/netns", "sys", "tmp", "var/tmp"]:
        archive.folder(name)
    archive.file("/usr/bin/busybox", shutil.which("busybox", path="/usr/bin:/bin"))
    archive.link("/usr/sbin/modprobe", "kmod" if os.path.exists("/usr/sbin/kmod") else "../bin/kmod")
    for name in FILES:
        if os.path.exists(name):
            archive.tree(name)


def add_python(archive):
    """The interpreter and its library, with what is compiled already: compiling takes long in the guest."""
    version = PYTHON.resolve().name
    archive.file(PYTHON)
    library = pathlib.Path("/usr/lib") / version
    archive.tree(library, UNUSED_PYTHON)
    yaml = pathlib.Path("/usr/lib/python3/dist-packages")
    for path in [*yaml.glob("yaml"), *yaml.glob("_yaml")]:
        archive.tree(path)
    return [PYTHON, *library.glob("lib-dynload/*.so"), *yaml.glob("yaml/*.so")]


def add_modules(archive, kernel):
    folder = next((kernel / "lib/modules").iterdir())
    inside = pathlib.Path("/lib/modules") / folder.name
    for part in MODULES:
        for path in (folder / "kernel" / part).rglob("*.ko*"):
            archive.file(inside / path.relative_to(folder), path)
    for path in folder.glob("modules.*"):
        archive.file(inside / path.name, path)


def plan(arguments):
    """What guest.py is to run."""
    if arguments.command:
        return {"command": arguments.command}
    listed = subprocess.run(["ctest", "--test-dir", str(arguments.build), "-L", "^(bpf|e2e)$", "--show-only=json-v1",
                             *(["-R", arguments.match] if arguments.match else [])],
                            capture_output=True, text=True, check=True).stdout
    tests = []
    for test in json.loads(listed)["tests"]:
        properties = {item["name"]: item["value"] for item in test.get("properties", [])}
        command = test.get("command", [])
        if command and pathlib.Path(command[0]).name.startswith("python3"):
            command[0] = str(PYTHON)
        tests.append({"name": test["name"], "command": command, "timeout": properties.get("TIMEOUT", 300),
                      "environment": properties.get("ENVIRONMENT", []),
                      "skipped_by": properties.get("SKIP_REGULAR_EXPRESSION", [])})
    objects = sorted(str(path) for path in arguments.build.rglob("*.bpf.o"))
    return {"objects": objects, "tests": tests, "folder": str(arguments.build),
            "not_here": (HERE / "not-here.txt").read_text(encoding="utf-8")}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", type=pathlib.Path, required=True, help="folder of an unpacked linux-image")
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--match", help="only tests whose name matches")
    parser.add_argument("--with", dest="more", action="append", default=[], help="a file or folder to take along")
    parser.add_argument("command", nargs="*", help="run in the guest instead of the tests")
    arguments = parser.parse_args()
    todo = plan(arguments)
    used = {pathlib.Path(test["command"][0]) for test in todo.get("tests", []) if test["command"]}
    folders = [arguments.build, arguments.build / "next"]  # the second: programs of another version, for a takeover
    built = [path for folder in folders for path in folder.iterdir() if path.is_file() and os.access(path, os.X_OK)]
    binaries = sorted({path for path in [*built, *used] if path != PYTHON} | set(find_programs()))
    with Archive(arguments.output) as archive:
        add_system(archive)
        for path in binaries:
            archive.file(path)
        for path in libraries([*binaries, *add_python(archive)]):
            archive.file(path)
        add_modules(archive, arguments.kernel)
        for path in [ROOT / "tests/support", ROOT / "tests/e2e", HERE, *todo.get("objects", []), *arguments.more]:
            archive.tree(path)
        archive.text("/plan.json", json.dumps(todo))
        archive.file("/init", HERE / "init")
        archive.link("/kernel-tests", HERE)


if __name__ == "__main__":
    main()
