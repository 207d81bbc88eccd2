"""The commands behind tests/cluster/up and tests/cluster/down."""

import argparse
import os
import pathlib
import shlex
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cluster import layout
from cluster.testbed import Cluster, remove

DEFAULT_FOLDER = "/tmp/egressd-cluster"
USE = """
    export PATH={bin}:$PATH
    kubectl get nodes
    on node1 COMMAND                       # also: on node2, on control, on outside
    load-image FILE.tar                    # into the containerd of every node

An image for pods is {image}: a shell and curl. Outside the mesh are {hosts}.
`tests/cluster/down{options}` takes it all away.
"""


def write_tools(cluster):
    """Programs to play with, in bin/: they enter the cluster's namespaces, since nothing of it can be reached from here."""
    folder = cluster.folder / "bin"
    folder.mkdir()
    machines = "\n".join(f"  {machine.name}) shift; set -- {shlex.join(machine.command())} \"$@\" ;;"
                         for machine in cluster.machines)
    load = "\n".join(f'{folder}/on {node.name} ctr -n k8s.io images import "$file"' for node in cluster.nodes)
    tools = {"kubectl": f'exec {shlex.join(cluster.control.kubectl_command())} "$@"',
             "on": f'case ${{1-}} in\n{machines}\n  *) echo "on MACHINE COMMAND..." >&2; exit 2 ;;\nesac\nexec "$@"',
             "load-image": f'file=$(readlink -f "$1")\n{load}'}
    for name, text in tools.items():
        path = folder / name
        path.write_text(f"#!/bin/sh -e\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
    return folder


def up(arguments):
    folder = arguments.dir
    if folder.exists():
        sys.exit(f"up: {folder} is there already: tests/cluster/down --dir {folder} takes it away")
    began = time.monotonic()
    cluster = Cluster(arguments.binaries, folder, arguments.nodes)
    try:
        cluster.up()
        cluster.outside.start_servers()
        tools = write_tools(cluster)
    except BaseException:
        print(cluster.logs(), file=sys.stderr)
        cluster.down()
        raise
    print(f"The cluster is up after {time.monotonic() - began:.0f} s. To use it:")
    print(USE.format(bin=tools, image=layout.POD_IMAGE, hosts=", ".join(layout.HOSTS),
                     options="" if str(folder) == DEFAULT_FOLDER else f" --dir {folder}"))


def down(arguments):
    remove(arguments.dir)


def main():
    parser = argparse.ArgumentParser(prog="tests/cluster/")
    commands = parser.add_subparsers(required=True, metavar="up|down")
    for name, command in (("up", up), ("down", down)):
        one = commands.add_parser(name)
        one.set_defaults(run=command)
        one.add_argument("--dir", type=lambda text: pathlib.Path(text).absolute(), default=DEFAULT_FOLDER)
        if name == "up":
            one.add_argument("--binaries", required=True)
            one.add_argument("--nodes", type=int, default=2, choices=range(1, layout.MOST_NODES + 1))
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("tests/cluster: must be started as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    arguments.run(arguments)


if __name__ == "__main__":
    main()
