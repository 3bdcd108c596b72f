"""The gateway to other programs: output, time limits, and that nothing is left running."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling import proc, process
from gatling.errors import CommandFailed, Exit, MissingProgram, TimedOut
from tests.conftest import until
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def sh(script: str, *, timeout: float = 20, check: bool = True) -> tuple[list[str], int]:
    """Run a shell script; its lines and its status."""
    lines: list[str] = []
    done = process.run(["sh", "-c", script], timeout=timeout, on_line=lines.append, check=check)
    return lines, done.status


def python(script: str) -> list[str]:
    lines: list[str] = []
    process.run([sys.executable, "-I", "-c", script], timeout=20, on_line=lines.append)
    return lines


def gone(pid: int) -> bool:
    return proc.start_time(pid) is None


@contextlib.contextmanager
def sleeper(**environment: str) -> Iterator[int]:
    """A process that goes on until it is ended."""
    with subprocess.Popen(["sleep", "60"], env=os.environ | environment) as child:
        try:
            yield child.pid
        finally:
            child.kill()


def test_lines_in_order_from_both_streams() -> None:
    lines, _ = sh("echo one; echo two >&2; printf 'three\\r\\n\\n four '")
    assert lines == ["one", "two", "three", "", " four "]


def test_lines_come_while_the_program_runs() -> None:
    class Enough(Exception):
        pass

    def enough(text: str) -> None:
        assert text == "at once"
        raise Enough

    started = time.monotonic()
    with pytest.raises(Enough):
        process.run(["sh", "-c", "echo at once; sleep 60"], timeout=60, on_line=enough)
    assert time.monotonic() - started < 20


def test_a_huge_line_is_handed_on_in_pieces() -> None:
    lines = python("import sys; sys.stdout.write('x' * 3_000_000 + '\\nlast')")
    assert "".join(lines[:-1]) == "x" * 3_000_000
    assert lines[-1] == "last"
    assert len(lines) > 10
    assert max(len(line) for line in lines) <= process.MAX_LINE + 65536


def test_what_is_not_utf_8_does_no_harm() -> None:
    script = r"import os; os.write(1, b'a\xff\xfeb\nc\0d\n\xc3\xa9\n\xe2\x82')"
    assert python(script) == ["a\ufffd\ufffdb", "c\0d", "é", "\ufffd"]


def test_many_lines_are_all_there_and_the_last_ones_are_kept() -> None:
    lines: list[str] = []
    done = process.run(["seq", "50000"], timeout=60, on_line=lines.append)
    assert lines == [str(n) for n in range(1, 50001)]
    assert done.tail == tuple(lines[-process.TAIL_LINES :])
    assert done.text.endswith("49999\n50000")
    assert done.argv == ("seq", "50000")


def test_it_has_no_input_and_no_terminal_and_a_session_of_its_own() -> None:
    pid, session, read, terminal = python(
        "import os, sys; print(os.getpid()); print(os.getsid(0)); print(repr(sys.stdin.read()));"
        "print(os.path.exists('/dev/tty') and os.isatty(0))"
    )
    assert session == pid != str(os.getsid(0))
    assert (read, terminal) == ("''", "False")


def test_it_can_be_nice() -> None:
    # for its children as well, which are started a moment later
    script = 'until [ "$(nice)" = 19 ]; do sleep 0.02; done; sh -c nice'
    assert process.run(["sh", "-c", script], timeout=60, nice=19).tail == ("19",)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no groups of sessions")
def test_its_session_is_nice_as_well() -> None:
    """Else niceness would count among the processes of that session only."""
    # A user may change one session in a tenth of a second, and other tests do so as well.
    script = 'for i in $(seq 20); do read a b nice </proc/self/autogroup; [ "$nice" = 19 ] && break'
    script += '; sleep 0.02; done; echo "$nice"'
    found = (process.run(["sh", "-c", script], timeout=60, nice=19).tail for _ in range(20))
    assert ("19",) in found
    script = 'read a b nice </proc/self/autogroup; echo "$nice"'
    assert process.run(["sh", "-c", script], timeout=60).tail == ("0",)


def test_it_stays_as_nice_as_its_caller() -> None:
    script = (
        "import os, pathlib; from gatling import process\n"
        "started = process.start(['sh', '-c', 'read line; nice'], nice=10, stdin=-1, output=-1,"
        " cwd=pathlib.Path(), env=os.environ)\n"
        "print(started.communicate(b'\\n')[0].decode())"
    )
    argv = ["nice", "-n", "19", sys.executable, "-I", "-c", script]
    assert process.output(argv, timeout=60).strip() == "19"


def test_a_status_is_checked_unless_it_is_wanted() -> None:
    assert sh("echo said; exit 3", check=False) == (["said"], 3)
    with pytest.raises(CommandFailed, match=r"sh exited with status 3\.") as caught:
        sh("echo said; exit 3")
    assert caught.value.log == ("said",)
    with pytest.raises(CommandFailed, match="sh was killed by SIGTERM"):
        sh("kill $$")


def test_environment_and_directory(tmp_path: Path) -> None:
    argv = ["sh", "-c", 'echo "$KEY"; pwd; echo "${HOME-unset}"']
    env = {"KEY": "two words", "PATH": os.environ["PATH"]}
    done = process.run(argv, timeout=20, cwd=tmp_path, env=env)
    assert done.tail == ("two words", str(tmp_path.resolve()), "unset")


def test_arguments_are_no_shell_text() -> None:
    hostile = ["$(id)", "; exit 1", "a\nb", "--", "*"]
    done = process.run(["printf", "%s|", *hostile], timeout=20)
    assert done.text == "|".join(hostile) + "|"


@pytest.mark.parametrize(
    "start",
    [
        lambda argv, _: process.run(argv, timeout=5),
        lambda argv, _: process.output(argv),
        lambda argv, tmp: process.spawn_detached(argv, env={}, cwd=tmp, log=tmp / "log"),
    ],
    ids=["run", "output", "spawn_detached"],
)
def test_a_program_that_is_not_installed(
    start: Callable[[list[str], Path], object], tmp_path: Path
) -> None:
    with pytest.raises(MissingProgram, match="no-such-program-here is not installed") as caught:
        start(["no-such-program-here", "x"], tmp_path)
    assert caught.value.exit_status == Exit.HOST
    assert "apt install no-such-program-here" in caught.value.hint


@pytest.mark.parametrize(
    ("program", "package"), [("ssh-keygen", "openssh-client"), ("mix", "elixir"), ("git", "git")]
)
def test_the_package_of_a_program_that_is_not_installed(program: str, package: str) -> None:
    assert process.missing(program).hint.endswith(f": apt install {package}")


def test_how_a_program_ended_is_a_number_too() -> None:
    for script, status in (("exit 7", 7), ("kill -KILL $$", -9)):
        with pytest.raises(CommandFailed) as caught:
            process.output(["sh", "-c", script])
        assert caught.value.status == status


def test_when_time_is_up_the_whole_group_ends(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"(sleep 60 & echo $! >> {shlex.quote(str(pids))}; wait) & echo said; sleep 60"
    with pytest.raises(CommandFailed, match=r"did not end within 3 seconds") as caught:
        sh(script, timeout=3)
    assert caught.value.log == ("said",)
    until(lambda: gone(int(pids.read_text())), "the grandchild's end")


def test_an_interruption_ends_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def interrupt(_line: str) -> None:
        raise KeyboardInterrupt

    script = f"sleep 60 & echo $! > {shlex.quote(str(pids))}; echo go; wait"
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", script], timeout=60, on_line=interrupt)
    until(lambda: gone(int(pids.read_text())), "the grandchild's end")


def test_who_ignores_the_polite_signal_is_killed() -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-I", "-c", script + "time.sleep(60)"],
        stdout=subprocess.PIPE, start_new_session=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        proc.end_group(child.pid, grace=0.1)
        assert child.wait(10) == -signal.SIGKILL
    proc.end_group(child.pid)  # nobody there: nothing happens


def test_a_daemon_that_keeps_the_pipe_is_not_waited_for() -> None:
    started = time.monotonic()
    lines, status = sh("setsid sleep 60 & echo $!; echo done")
    assert time.monotonic() - started < 20
    assert (lines[1:], status) == (["done"], 0)
    os.kill(int(lines[0]), signal.SIGKILL)


def test_output_is_standard_output_alone() -> None:
    assert process.output(["sh", "-c", "echo out; echo err >&2"]) == "out\n"
    with pytest.raises(CommandFailed, match="sh exited with status 2") as caught:
        process.output(["sh", "-c", "echo out; echo err >&2; exit 2"])
    assert caught.value.log == ("err",)
    with pytest.raises(CommandFailed, match=r"did not end within 0\.2 seconds"):
        process.output(["sleep", "60"], timeout=0.2)
    name = process.output(["printf", "\\377"])
    assert os.fsencode(name) == b"\xff"  # a path goes back to the bytes it was


def test_outputs_of_programs_that_run_beside_each_other(tmp_path: Path) -> None:
    """Two that wait for each other: each opens a pipe of which the other has the second end."""
    os.mkfifo(tmp_path / "a")
    os.mkfifo(tmp_path / "b")
    large = "x" * 200_000  # more than a pipe holds, in both directions
    found = process.outputs(
        [
            (["sh", "-c", f"echo here > {tmp_path}/a; cat {tmp_path}/b"], ""),
            (["sh", "-c", f"cat {tmp_path}/a; echo there > {tmp_path}/b"], ""),
            (["cat"], large),
            (["sh", "-c", "echo lost; exit 3"], ""),
        ]
    )()
    assert found == ["there\n", "here\n", large, None]


def test_one_of_several_programs_that_is_too_slow_ends() -> None:
    started = time.monotonic()
    taken = process.outputs([(["sleep", "60"], ""), (["echo", "x"], "")], timeout=0.2)
    assert taken() == [None, "x\n"]
    assert time.monotonic() - started < 30


def test_a_program_that_puts_itself_into_the_background(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    script = "setsid sleep 60 & echo $!; echo to stderr >&2; pwd"
    env = {"PATH": os.environ["PATH"]}
    process.spawn_detached(["sh", "-c", script], env=env, cwd=tmp_path, log=log)
    before, pid, stderr, cwd = log.read_text().splitlines()
    assert (before, stderr, cwd) == ("before", "to stderr", str(tmp_path.resolve()))
    assert not gone(int(pid))
    os.kill(int(pid), signal.SIGKILL)
    with pytest.raises(CommandFailed, match="status 4") as caught:
        process.spawn_detached(["sh", "-c", "echo why; exit 4"], env=env, cwd=tmp_path, log=log)
    assert caught.value.log[-1] == "why"


def test_what_bears_a_mark_is_ended_wherever_it_hid_and_nothing_else() -> None:
    mark = f"test:{os.getpid()}:{time.monotonic_ns()}"
    with (
        sleeper() as unmarked,
        sleeper(**{proc.MARK: f"{mark}0"}) as similar,
        sleeper(OTHER=f"{proc.MARK}={mark}") as mentions,
        sleeper(**{proc.MARK: mark}) as marked,
    ):
        argv = ["sh", "-c", "setsid sh -c 'sleep 60 & echo $!; exec sleep 60' & wait"]
        env = os.environ | {proc.MARK: mark}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as starter:
            assert starter.stdout is not None
            daemon = int(starter.stdout.readline())
            starter.kill()  # the one who started them is gone
            starter.wait()
            assert not gone(daemon)
            assert proc.end_marked(mark) >= 3
            assert gone(daemon)
        assert gone(marked)
        assert not any(gone(pid) for pid in (unmarked, similar, mentions))
        assert proc.end_marked(mark) == 0


def test_what_executes_other_programs_again_and_again_cannot_hide(tmp_path: Path) -> None:
    mark = f"test:{os.getpid()}:{time.monotonic_ns()}"
    (tmp_path / "again").write_text('echo; exec sh "$0"\n')
    env = os.environ | {proc.MARK: mark}
    argv = ["sh", str(tmp_path / "again")]
    restless = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL)
    try:
        until(lambda: mark.encode() in proc._environ(restless.pid), "its start")
        seen = [mark.encode() in proc._environ(restless.pid) for _ in range(scaled(2000, 20_000))]
        assert all(seen), seen.count(False)
        assert proc.end_marked(mark) == 1
    finally:
        restless.kill()
    assert restless.wait() == -signal.SIGKILL


def test_what_bears_a_mark_may_end_by_itself_before_it_is_killed(tmp_path: Path) -> None:
    mark = f"test:{os.getpid()}:{time.monotonic_ns()}"
    env = os.environ | {proc.MARK: mark}
    polite = ["sh", "-c", f"trap 'echo ended >{tmp_path}/said; exit 0' TERM; echo; sleep 60 & wait"]
    stubborn = ["sh", "-c", "trap '' TERM; echo; while :; do sleep 60; done"]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(argv, env=env, stdout=subprocess.PIPE))
            for argv in (polite, stubborn)
        ]
        for one in started:
            assert one.stdout is not None
            one.stdout.readline()
        assert proc.end_marked(mark, grace=3) >= 2
        assert [one.wait() for one in started] == [0, -signal.SIGKILL]
    assert (tmp_path / "said").read_text() == "ended\n"


def test_a_process_is_known_by_pid_and_start() -> None:
    with sleeper() as pid:
        started = proc.start_time(pid)
        assert started is not None
        assert proc.alive(pid, started)
        assert not proc.alive(pid, started - 1)
        assert proc.start_time(pid) == started
        assert -0.1 < proc.age(started) < 60
        with sleeper() as other:
            assert not gone(other)
    assert not proc.alive(pid, started)
    assert gone(pid)


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["true"]) as child:
        assert proc.wait_gone(child.pid, 10)
        assert gone(child.pid)  # nobody has requested its status yet
        assert child.returncode is None


def test_a_name_may_be_anything() -> None:
    script = (
        "import sys; open('/proc/self/comm', 'w').write(') Z 1 (x'); print(1, flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        started = proc.start_time(child.pid)
        boot = proc.start_time(os.getpid())
        assert started is not None
        assert boot is not None
        assert started >= boot
        child.stdin.close()


def test_waiting_for_an_end() -> None:
    with sleeper() as pid:
        assert proc.wait_gone(pid, 0.05) is False
        os.kill(pid, signal.SIGKILL)
        assert proc.wait_gone(pid, 10) is True
    assert proc.wait_gone(pid, 0) is True  # no such process


def test_the_time_limit_holds_after_the_end_of_the_output() -> None:
    started = time.monotonic()
    with pytest.raises(TimedOut, match="1 seconds"):
        process.run(["sh", "-c", "exec >&- 2>&-; sleep 30"], timeout=1)
    assert time.monotonic() - started < 10


def test_a_program_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    sh(f"exec >&- 2>&-; sleep 0.3; echo done > {tmp_path}/file")
    assert (tmp_path / "file").read_text() == "done\n"


@pytest.mark.parametrize("start", [process.output, process.run])
def test_what_keeps_a_program_from_starting(tmp_path: Path, start: Callable[..., object]) -> None:
    def text(name: str, content: bytes, mode: int) -> str:
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)
        return str(tmp_path / name)

    plain = text("plain", b"#!/bin/sh\n", 0o644)
    orphan = text("orphan", b"#!/no/such/shell\n", 0o755)
    foreign = text("foreign", b"\x7fELF no program", 0o755)
    for argv, cwd, kind, why in (
        (["true"], tmp_path / "gone", CommandFailed, "gone: No such file or directory"),
        (["true"], tmp_path / "plain", CommandFailed, "plain: Not a directory"),
        (["no-such-program-1"], tmp_path, MissingProgram, "is not installed"),
        ([str(tmp_path / "none")], tmp_path, MissingProgram, "is not installed"),
        ([plain], tmp_path, CommandFailed, "plain cannot be started: the file is not executable"),
        ([orphan], tmp_path, CommandFailed, "first line names"),
        ([foreign], tmp_path, CommandFailed, "not a program for this machine"),
        (["true", "x" * 3_000_000], tmp_path, CommandFailed, "are too long"),
    ):
        with pytest.raises(kind, match=why):
            start(argv, timeout=20, cwd=cwd)


def test_output_has_a_time_limit_for_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(TimedOut):
        process.output(["sh", "-c", f"sleep 60 & echo $! > {pid}; wait"], timeout=0.5)
    until(lambda: gone(int(pid.read_text())), "the end of the whole session")


def test_output_has_a_session_of_its_own() -> None:
    script = "import os; print(os.getsid(0) == os.getpid())"
    assert process.output([sys.executable, "-I", "-c", script]) == "True\n"


def test_programs_can_be_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("GATLING_DEBUG", "1")
    process.output(["true", "a b", "https://ann:pass@host/x"], cwd=tmp_path)
    assert f"+ true a b https://…@host/x  (in {tmp_path})" in capsys.readouterr().err
