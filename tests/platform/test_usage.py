"""What processes use, with those below them."""

from __future__ import annotations

import os
import subprocess
import sys

from gatling.platform import usage

CHILD = "import sys; data = bytearray(30_000_000); print('there', flush=True); sys.stdin.read()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


def test_a_process_counts_with_those_that_it_has_started() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        found = usage.of_trees([parent.pid, os.getpid()])
        parent.communicate()
    assert 30_000_000 < found[parent.pid].memory < 300_000_000
    assert found[os.getpid()].memory > found[parent.pid].memory
    assert found[parent.pid].cpu > 0
    assert usage.of_trees([parent.pid]) == {}
    assert usage.of_trees([]) == {}
