"""What runs when the unit of a push has ended: recovery, but only where the push was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gatling.platform.server import after_push, recovery_units


@pytest.mark.parametrize(
    ("result", "recovers"),
    [("success", False), ("exit-code", False), ("signal", True), ("oom-kill", True),
     ("core-dump", True), ("timeout", True), (None, True)],
)  # fmt: skip
def test_a_push_that_was_killed_is_recovered(
    tmp_path: Path, result: str | None, recovers: bool
) -> None:
    gatling, said = tmp_path / "gatling", tmp_path / "said"
    gatling.write_text(f'#!/bin/sh\necho "$@" > {said}\n')
    gatling.chmod(0o755)
    script = Path(str(after_push.__file__))
    (line, _) = recovery_units.recover_after(script, gatling, "shop")
    words = line.removeprefix("ExecStopPost=").split()
    env = {"SERVICE_RESULT": result} if result else {}
    subprocess.run([sys.executable, *words[1:]], env=env, check=True, timeout=60)
    assert said.exists() == recovers
    if recovers:
        assert said.read_text() == "recover shop\n"
