"""The modules that a push needs late are loaded late, and all of them beside the build."""

from __future__ import annotations

import subprocess
import sys

from gatling.deploy import preload


def loaded(program: str) -> str:
    code = f"import sys; {program}; print([m for m in {preload.LATER!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_push_loads_none_of_them_before_its_build() -> None:
    assert loaded("import gatling.ssh.pre_receive, gatling.ssh.receive") == "[]"


def test_they_are_loaded_beside_it() -> None:
    program = (
        "import threading; from gatling.deploy import preload; preload.start();"
        " [t.join() for t in threading.enumerate() if t.daemon]"
    )
    assert loaded(program) == str(list(preload.LATER))
