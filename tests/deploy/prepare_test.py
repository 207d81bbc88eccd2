"""deploy/prepare.sh: what every script that a person calls stands on."""

import os
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[2]


class Quietly(unittest.TestCase):
    def quietly(self, command, path=""):
        """(exit status, output) of a script that runs `command` quietly."""
        done = subprocess.run(["bash", "-ec", f'. "$root/deploy/prepare.sh"; quietly work {command}'],
                              env={**os.environ, "root": str(ROOT), "PATH": path + os.environ["PATH"]}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
        return done.returncode, done.stdout

    def test_a_command_that_ends_before_its_watcher_has_begun_is_not_waited_for_longer(self):
        with tempfile.TemporaryDirectory() as folder:
            slow = pathlib.Path(folder, "setsid")
            slow.write_text('#!/bin/sh\ncase $* in *"while sleep"*) sleep 1 ;; esac\nPATH=${PATH#*:} exec setsid "$@"\n')
            slow.chmod(0o755)
            self.assertEqual(self.quietly("true", f"{folder}:"), (0, "work ...\n"))

    def test_what_a_command_said_is_shown_when_it_fails(self):
        status, output = self.quietly("sh -c 'echo why; exit 3'")
        self.assertEqual(status, 3)
        self.assertEqual(output, "work ...\nwhy\nwork: failed with status 3\n")


if __name__ == "__main__":
    unittest.main()
