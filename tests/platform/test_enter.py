"""The launcher of a server's instances: what it says of the end before, and how long it waits."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gatling.platform import enter, restarts
from gatling.platform.restarts import End


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def launched(tmp_path: Path, runtime: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Start once, as systemd does."""
    program = {"argv": ["/bin/echo", "it runs"], "env": {}, "cwd": "/"} | more
    (tmp_path / "program").write_text(json.dumps(program))
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path), "RUNTIME_DIRECTORY": str(runtime),
           "MEMORY_LIMIT": "100M"}  # fmt: skip
    return subprocess.run([sys.executable, "-I", "-S", str(enter.__file__)], env=env,
                          capture_output=True, text=True, check=False, timeout=60,
                          start_new_session=True)  # fmt: skip


def test_the_first_start_says_nothing_and_each_further_one_why(
    tmp_path: Path, runtime: Path
) -> None:
    assert launched(tmp_path, runtime).stdout == "it runs\n"
    for end, said in (("exit-code exited 1", "exited with status 1"),
                      ("signal killed KILL", "killed by SIGKILL, most likely for its memory"),
                      ("oom-kill killed KILL", "killed for its memory (limit 100M)")):  # fmt: skip
        (runtime / "end").write_text(end)
        first, second = launched(tmp_path, runtime).stdout.splitlines()
        assert first.startswith(f"-- instance {said}")
        assert second == "it runs"
    assert "restart 3 within an hour, in 2 s" in first
    found = restarts.read(runtime / enter.ENDS)
    assert [end.cause for end in found] == [
        "exited with status 1", "killed by SIGKILL, most likely for its memory (limit 100M)",
        "killed for its memory (limit 100M)"]  # fmt: skip
    assert not (runtime / enter.PAUSE).exists()
    assert not restarts.hopeless(found)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no groups of sessions")
def test_a_build_and_its_session_are_nice(tmp_path: Path, runtime: Path) -> None:
    script = 'nice; read group word nice </proc/self/autogroup; echo "$nice"'
    said = launched(tmp_path, runtime, argv=["/bin/sh", "-c", script]).stdout.split()
    usual = int(said[0])
    said = launched(tmp_path, runtime, argv=["/bin/sh", "-c", script], nice=5).stdout.splitlines()
    assert said[-2:] == [str(min(19, usual + 5)), "5"]


def test_a_unit_that_is_another_users_starts_nothing(tmp_path: Path, runtime: Path) -> None:
    """As after a power cut that has left its drop-in empty."""
    done = launched(tmp_path, runtime, user="gatling-shop")
    assert (done.stdout, done.returncode) == ("", 1)
    assert "not gatling-shop's" in done.stderr
    own = pwd.getpwuid(os.getuid()).pw_name
    assert launched(tmp_path, runtime, user=own).stdout == "it runs\n"


def test_what_an_app_writes_there_itself_is_taken_for_what_it_is(runtime: Path) -> None:
    file = runtime / enter.ENDS
    for hostile in (
        b"\xff" * 100_000,
        b"1 2\n",
        b"nan inf x\n",
        b"1 2 \x1b[2J\n",
        b"1 2 " + b"x" * 999,
    ):
        file.write_bytes(hostile)
        assert restarts.read(file) == []
    file.unlink()
    os.mkfifo(file)
    assert restarts.read(file) == []
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert restarts.read(file) == []


def test_which_ends_count() -> None:
    ends = [End(at, 1.0, "exited") for at in range(0, 7200, 600)]
    assert len(restarts.recent(ends, now=7200.0)) == 5
    assert restarts.hopeless(ends)
    assert not restarts.hopeless([*ends, End(7200.0, 61.0, "exited")])
    assert not restarts.hopeless(ends[:9])
    assert [restarts.pause(ends[:count]) for count in (0, 1, 2, 5, 10)] == [0, 0, 1, 8, 30]
    assert restarts.pause([*ends, End(7200.0, 61.0, "exited")]) == 0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (119, "119.0 s"), (130, "2 min"), (7300, "2 h")]
)
def test_spans(seconds: float, said: str) -> None:
    assert enter.span(seconds) == said
