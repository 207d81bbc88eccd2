"""The tests on a real cluster that take a few minutes. `short.py CLASS.test` runs one."""

import pathlib
import sys

TESTS = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "deploy")]

from cluster.admission import Admission
from cluster.case import main
from cluster.life import Life
from cluster.recovery import Recovery
from cluster.removal import Removal
from cluster.rights import Rights
from cluster.starts import Starts
from cluster.walkthrough import Walkthrough

if __name__ == "__main__":
    main(Admission, Walkthrough, Starts, Life, Recovery, Rights, Removal)
