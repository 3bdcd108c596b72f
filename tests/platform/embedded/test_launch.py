"""launch.py as a process of its own: it becomes what its slot's instance.json says."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gatling import proc
from gatling.platform.embedded import launch
from tests.conftest import until
from tests.scale import scaled

if TYPE_CHECKING:
    from pathlib import Path

REPORT = (
    "import json, os, sys; print(json.dumps({'argv': sys.argv[1:], 'env': dict(os.environ),"
    "'cwd': os.getcwd(), 'pid': os.getpid()}))"
)


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    directory = tmp_path / "apps/shop/slots/1"
    directory.mkdir(parents=True)
    return directory


def describe(slot: Path, argv: list[str], env: dict[str, str], cwd: Path) -> None:
    text = json.dumps({"release": 7, "argv": argv, "env": env, "cwd": str(cwd)})
    (slot / "instance.json").write_text(text, encoding="utf-8")


def launched(slot: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(launch.__file__), str(slot)], env=environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
    )  # fmt: skip


def test_it_becomes_the_program_with_exactly_that_environment(slot: Path, tmp_path: Path) -> None:
    env = {"SECRET": "two\nlines é $(id)", "EMPTY": "", "LC_ALL": "C.UTF-8"}
    arguments = ["start", "with space", "é", "$HOME"]
    describe(slot, [sys.executable, "-I", "-c", REPORT, *arguments], env, tmp_path)
    child = launched(slot, AMBIENT="must not get through", PATH=os.environ["PATH"])
    out, err = child.communicate(timeout=20)
    assert (child.returncode, err) == (0, "")
    seen: dict[str, Any] = json.loads(out)
    assert seen["argv"] == arguments
    assert seen["env"] == env | {proc.MARK: launch.mark(str(slot))}
    assert seen["cwd"] == str(tmp_path.resolve())
    assert seen["pid"] == child.pid  # the supervisor's own child, not one of its


def test_it_is_as_nice_as_it_shall_be(slot: Path, tmp_path: Path) -> None:
    what = [sys.executable, "-I", "-c", "import os; print(os.nice(0))"]
    describe(slot, what, {}, tmp_path)
    assert launched(slot).communicate(timeout=20)[0] == f"{os.nice(0)}\n"
    known = json.loads((slot / "instance.json").read_text())
    (slot / "instance.json").write_text(json.dumps(known | {"nice": 9}))
    assert launched(slot).communicate(timeout=20)[0] == f"{min(19, os.nice(0) + 9)}\n"


def test_it_leaves_its_pid_its_start_and_its_release(slot: Path, tmp_path: Path) -> None:
    (slot / "pid").write_text("1 1\n")
    describe(slot, ["/bin/sh", "-c", "echo ready; exec sleep 60"], {"PATH": "/bin"}, tmp_path)
    with launched(slot) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        *numbers, boot = (slot / "pid").read_text().split()
        pid, started, release = map(int, numbers)
        assert boot == launch.boot()
        assert (pid, release) == (child.pid, 7)
        assert proc.alive(pid, started)
        child.kill()
    assert not proc.alive(pid, started)
    assert sorted(p.name for p in slot.iterdir()) == ["instance.json", "pid", "tmp"]


CHILD = 'setsid sh -c "trap : TERM; echo child; while sleep 1; do :; done" & wait'


def start_with_a_child(slot: Path) -> subprocess.Popen[str]:
    """A program that has started another one, in a session of its own."""
    child = launched(slot)
    assert child.stdout is not None
    assert child.stdout.readline() == "child\n"
    return child


def left(slot: Path) -> list[int]:
    mark = f"{launch.MARK}={launch.mark(str(slot))}".encode()
    return [pid for pid in proc._own_pids() if mark in proc._environ(pid)]


def test_what_the_one_before_has_left_in_other_sessions_ends(slot: Path, tmp_path: Path) -> None:
    describe(slot, ["/bin/sh", "-c", CHILD], {"PATH": os.environ["PATH"]}, tmp_path)
    with start_with_a_child(slot) as child:
        child.kill()
    assert left(slot) != []
    describe(slot, ["/bin/true"], {}, tmp_path)
    launched(slot).communicate(timeout=20)
    assert left(slot) == []


RESTLESS = 'setsid sh -c "echo child; exec sh \\"$0\\"" "$0" & wait'


def test_what_executes_other_programs_again_and_again_ends_too(slot: Path, tmp_path: Path) -> None:
    """In execve(2) it has no environment, by which it would be known, for a moment."""
    (tmp_path / "again").write_text('exec sh "$0"\n')
    argv = ["/bin/sh", "-c", RESTLESS, str(tmp_path / "again")]
    for _ in range(scaled(3, 50)):
        describe(slot, argv, {"PATH": os.environ["PATH"]}, tmp_path)
        with start_with_a_child(slot) as child:
            child.kill()
        describe(slot, ["/bin/true"], {}, tmp_path)
        launched(slot).communicate(timeout=20)
        assert left(slot) == []


def test_after_a_reboot_nobody_is_taken_for_what_was_left(slot: Path, tmp_path: Path) -> None:
    """The number of a process group may be that of somebody else then."""
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo ready"], text=True,
                          stdout=subprocess.PIPE, start_new_session=True) as stranger:  # fmt: skip
        assert stranger.stdout is not None
        stranger.stdout.readline()
        stranger.wait()
        (slot / "pid").write_text(f"{stranger.pid} 1 7 another-boot\n")
        launch.end_rest(str(slot))
        os.killpg(stranger.pid, 0)
        (slot / "pid").write_text(f"{stranger.pid} 1 7 {launch.boot()}\n")
        launch.end_rest(str(slot))
        until(lambda: all_zombies(stranger.pid), "the end of what was left", 20)


def all_zombies(group: int) -> bool:
    states = []
    for entry in os.listdir("/proc"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            if entry.isdecimal() and os.getpgid(int(entry)) == group:
                states.append(proc.start_time(int(entry)))
    return not any(states)


def test_its_temporary_directory_is_new_each_time(slot: Path, tmp_path: Path) -> None:
    left = slot / "tmp/left/behind"
    left.mkdir(parents=True)
    describe(slot, ["/bin/true"], {}, tmp_path)
    assert launched(slot).communicate(timeout=20) == ("", "")
    assert list((slot / "tmp").iterdir()) == []
    assert stat.S_IMODE((slot / "tmp").stat().st_mode) == 0o700


def test_it_may_open_as_many_files_as_the_host_allows(slot: Path, tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    describe(slot, ["/bin/sh", "-c", "ulimit -S -n"], {}, tmp_path)
    lower = 'ulimit -S -n 64; exec "$0" -I -S "$1" "$2"'
    done = subprocess.run(
        ["sh", "-c", lower, sys.executable, str(launch.__file__), str(slot)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    wanted = launch.MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, launch.MAX_FILES)
    assert int(done.stdout) == wanted


def test_no_secret_is_in_its_command_line(slot: Path, tmp_path: Path) -> None:
    describe(slot, ["/bin/sh", "-c", "echo ready; exec sleep 60"], {"KEY": "hidden"}, tmp_path)
    with launched(slot) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with open(f"/proc/{child.pid}/cmdline", "rb") as file:  # noqa: PTH123
            assert b"hidden" not in file.read()
        child.kill()


@pytest.mark.parametrize("spoil", ["no file", "no json", "no program", "no directory"])
def test_what_cannot_be_started_ends_with_a_word_why(
    slot: Path, tmp_path: Path, spoil: str
) -> None:
    program = "/no/such/program" if spoil == "no program" else "/bin/true"
    cwd = tmp_path / "gone" if spoil == "no directory" else tmp_path
    describe(slot, [program], {}, cwd)
    if spoil == "no file":
        (slot / "instance.json").unlink()
    elif spoil == "no json":
        (slot / "instance.json").write_text("{")
    child = launched(slot)
    _, err = child.communicate(timeout=20)
    assert child.returncode != 0
    assert "Error" in err
