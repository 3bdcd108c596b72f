"""The one gateway to other programs.

Every program is started here: an argv list (never a shell string), a time limit, a checked exit
status, its output handed on line by line. A program runs in a session of its own, so that a
Ctrl-C in the pusher's terminal reaches Gatling alone, which then decides what to end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, TypeVar, cast

from gatling import debuglog, proc
from gatling.errors import CommandFailed, GatlingError, MissingProgram, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Taken = TypeVar("Taken")

TAIL_LINES = 30
"""How many of a program's last lines are kept for an error."""

BACKGROUND = 5
"""The niceness of builds, plans and checks: they must not take the processor from what serves.

Nor must an app that uses all of it keep away the release that repairs it: at 5, a build gets a
quarter of a core that another program wants, at 10 a tenth.
"""

QUIET_VM = "+sbwt none +sbwtdcpu none +sbwtdio none"
"""Flags for a BEAM that serves nobody: its schedulers do not busy-wait. See erl(1).

A build waits for files and programs most of the time, beside instances that serve. A build of few
modules needs a quarter less time of the processor so.
"""

MAX_LINE = 16 * 1024
"""Bytes after which an unfinished line of output is handed on anyway."""


class Finished(NamedTuple):
    """A program that ended: its exit status, its last lines and how long it took, in seconds."""

    argv: tuple[str, ...]
    status: int
    tail: tuple[str, ...]
    seconds: float

    @property
    def text(self) -> str:
        """The last lines as one text."""
        return "\n".join(self.tail)


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
    nice: int = 0,
) -> Finished:
    """Run a program to its end, standard output and error together, line by line to `on_line`.

    `timeout` is in seconds and counts until the program has exited, whether it still prints or not;
    `nice` is setpriority(2)'s; a program is at least as nice as its caller. Raises MissingProgram,
    TimedOut, or CommandFailed when the program cannot be started or, with `check`, when the exit
    status is not 0. Anything else that is raised while it runs (an interruption, an error in
    `on_line`) ends the program and everything in its session first.
    """
    started = time.monotonic()
    process = _start(argv, cwd, env, nice)
    lines = _Lines(on_line)
    try:
        _read_lines(process, lines, started + timeout)
        status = process.wait()
    except TimeoutError:
        proc.end_group(process.pid)
        process.wait()
        raise _timed_out(argv, timeout, tuple(lines.tail)) from None
    except BaseException:
        proc.end_group(process.pid)
        process.wait()
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
    finished = Finished(tuple(argv), status, tuple(lines.tail), time.monotonic() - started)
    if check and status != 0:
        raise exit_error(argv, status, finished.tail)
    return finished


def start(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: int,
    output: int,
    nice: int = 0,
) -> subprocess.Popen[bytes]:
    """Start a program with files of the caller's, who attends to it; otherwise as `run`."""
    return _start(argv, cwd, env, nice, stdin, output)


def converse(argv: Sequence[str], *, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program that is talked to over its standard input and output.

    Its errors go to the standard error of this one. The caller closes the pipes and waits for it.
    """
    return _popen(
        argv, None, env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr.fileno()
    )


def attend(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a program in the place of this one, with its files and its terminal; its exit status.

    Signals that end this process end the program; those of a terminal reach both, and are its.
    """
    passed_on = (signal.SIGTERM, signal.SIGHUP)
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
    started = os.posix_spawn(
        argv[0], list(argv), dict(env), setsigdef=[signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE],
        setsigmask=[],
    )  # fmt: skip
    for number in passed_on:
        signal.signal(number, lambda received, _: os.kill(started, received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
    return os.waitstatus_to_exitcode(os.waitpid(started, 0)[1])


def read_all(
    fd: int, on_line: Callable[[str], None] | None = None
) -> tuple[tuple[str, ...], float]:
    """Hand on lines from a pipe until its end, and close it; the last lines and the seconds."""
    started = time.monotonic()
    lines = _Lines(on_line)
    try:
        while chunk := os.read(fd, 65536):
            lines.take(chunk)
        lines.end()
    finally:
        os.close(fd)
    return tuple(lines.tail), time.monotonic() - started


def output(
    argv: Sequence[str],
    *,
    timeout: float = 60,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
) -> str:
    """Run a short program and give its standard output; errors as `run`."""
    process = _popen(
        argv, cwd, env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    given = stdin.encode("utf-8", "surrogateescape")
    with process:  # closes the pipes
        try:
            out, err = process.communicate(given, timeout)
        except subprocess.TimeoutExpired:
            proc.end_group(process.pid)
            raise _timed_out(argv, timeout, ()) from None
        except BaseException:
            proc.end_group(process.pid)
            raise
    if process.returncode != 0:
        said = err.decode("utf-8", "replace").splitlines()[-TAIL_LINES:]
        raise exit_error(argv, process.returncode, tuple(said))
    return out.decode("utf-8", "surrogateescape").replace("\r\n", "\n")


def outputs(
    commands: Sequence[tuple[Sequence[str], str]],
    *,
    timeout: float = 60,
    env: Mapping[str, str] | None = None,
) -> Callable[[], list[str | None]]:
    """Start short programs, which run beside each other and the caller.

    The result waits for them, and gives the standard output of each, None for one that fails. Each
    command is an argv and the text of its standard input. `timeout` is in seconds, for each. Raises
    MissingProgram.
    """
    running = [
        _popen(argv, None, env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
               stderr=subprocess.DEVNULL)
        for argv, _ in commands
    ]  # fmt: skip

    def taken() -> list[str | None]:
        found: list[str | None] = []
        try:
            for process, (_, given) in zip(running, commands, strict=True):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out, _ = process.communicate(given.encode("utf-8", "surrogateescape"), timeout)
                ok = process.returncode == 0
                found.append(out.decode("utf-8", "surrogateescape") if ok else None)
        finally:
            for process in running:
                if process.poll() is None:
                    proc.end_group(process.pid)
                with process:  # closes the pipes
                    pass
        return found

    return taken


def take_output(
    argv: Sequence[str], take: Callable[[IO[bytes]], Taken], *, env: Mapping[str, str]
) -> Taken:
    """Run a program whose standard output, however long, is read by `take`; errors as `run`."""
    import tempfile  # takes a while to load, and few commands need it

    with tempfile.TemporaryFile() as errors:
        process = _popen(
            argv,
            None,
            env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors.fileno(),
        )
        with process:
            try:
                taken = take(cast("IO[bytes]", process.stdout))
            except BaseException:
                proc.end_group(process.pid)
                raise
        if process.returncode != 0:
            errors.seek(0)
            said = text(errors.read()).splitlines()[-TAIL_LINES:]
            raise exit_error(argv, process.returncode, tuple(said))
    return taken


def spawn_detached(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> None:
    """Start a program that outlives this one: own session, no terminal, output appended to `log`.

    Returns when the program has put itself into the background (its exit status 0); raises
    CommandFailed with the end of `log` otherwise.
    """
    with log.open("ab") as sink:
        fd = sink.fileno()
        process = _popen(argv, cwd, env, stdin=subprocess.DEVNULL, stdout=fd, stderr=fd)
        status = process.wait()
    if status != 0:
        lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        raise CommandFailed(f"{_name(argv)} {describe_status(status)}.", log=lines)


def exit_error(argv: Sequence[str], status: int, tail: tuple[str, ...]) -> CommandFailed:
    """Return the error for a program that ended with an unexpected status."""
    return CommandFailed(f"{_name(argv)} {describe_status(status)}.", log=tail, status=status)


def missing(program: str) -> MissingProgram:
    """Return the error for a program that is not installed; it names the Debian package."""
    return MissingProgram(
        f"{program} is not installed, or not on PATH.",
        hint=f"On Debian or Ubuntu: apt install {_PACKAGES.get(program, program)}",
    )


def describe_status(status: int) -> str:
    """`exited with status 1`, `was killed by SIGKILL`."""
    if status < 0:
        known = {member.value: member.name for member in signal.Signals}
        return f"was killed by {known.get(-status, f'signal {-status}')}"
    return f"exited with status {status}"


def _start(
    argv: Sequence[str],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    nice: int,
    stdin: int = subprocess.DEVNULL,
    output: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    process = _popen(argv, cwd, env, stdin=stdin, stdout=output, stderr=subprocess.STDOUT)
    if nice:
        proc.be_nice(process.pid, nice)
    return process


def _popen(
    argv: Sequence[str],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    *,
    stdin: int,
    stdout: int,
    stderr: int,
) -> subprocess.Popen[bytes]:
    """Every program starts here: argv without a shell, in a session of its own."""
    debuglog.command(argv, cwd)
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(argv, cwd, error) from None


def _not_started(argv: Sequence[str], cwd: Path | None, error: OSError) -> GatlingError:
    """Return the reason why a program did not start, by the error of execve(2) or chdir(2)."""
    name = _name(argv)
    if cwd is not None and error.filename in (cwd, os.fspath(cwd)):  # and not the program
        return CommandFailed(f"{name} cannot be started in {cwd}: {error.strerror}.")
    if error.errno == errno.ENOENT and not ("/" in argv[0] and Path(argv[0]).exists()):
        return missing(name)
    why = _REASONS.get(error.errno or 0, f"{error.strerror}.")
    return CommandFailed(f"{argv[0]} cannot be started: {why}")


_PACKAGES = {
    "erl": "erlang-nox",
    "mix": "elixir",
    "nft": "nftables",
    "nginx": "nginx-light",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
"""Programs whose Debian package has another name."""

_REASONS = {
    errno.ENOENT: "the program that its first line names (#!) is not there.",
    errno.EACCES: "the file is not executable.",
    errno.ENOEXEC: "the file is not a program for this machine, or a script without a #! line.",
    errno.E2BIG: "its arguments and environment are too long.",
}


def _timed_out(argv: Sequence[str], timeout: float, tail: tuple[str, ...]) -> TimedOut:
    """Return the error for a program that exceeded its time limit."""
    return TimedOut(
        f"{_name(argv)} did not end within {timeout:g} seconds and was stopped.", log=tail
    )


def _name(argv: Sequence[str]) -> str:
    return Path(argv[0]).name


class _Lines:
    """Output as lines, as soon as they are complete; the last of them stay in `tail`."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line, self._rest = on_line, b""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def take(self, chunk: bytes) -> None:
        """Hand on what is complete, and a line that has become too long."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines, self._rest = [*lines, self._rest], b""
        for raw in lines:
            self._line(raw)

    def end(self) -> None:
        """Hand on a last line that has no end."""
        if self._rest:
            self._line(self._rest)

    def _line(self, raw: bytes) -> None:
        self.tail.append(text(raw))
        if self._on_line is not None:
            self._on_line(self.tail[-1])


def _read_lines(process: subprocess.Popen[bytes], lines: _Lines, deadline: float) -> None:
    """Hand on lines until the program exits: neither earlier nor later.

    It may close its output long before, and a grandchild may hold the pipe long after.
    """
    assert process.stdout is not None  # noqa: S101 (for the type checker: always a pipe here)
    out = process.stdout.fileno()
    os.set_blocking(out, False)
    pidfd = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            selector.register(pidfd, selectors.EVENT_READ)
            exited = False
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                ready = {key.fd for key, _ in selector.select(0 if exited else left)}
                if out in ready:
                    chunk = os.read(out, 65536)
                    if not chunk:
                        selector.unregister(out)
                        continue
                    lines.take(chunk)
                elif exited:
                    break
                exited = exited or pidfd in ready
    finally:
        os.close(pidfd)
    lines.end()


def text(raw: bytes) -> str:
    """A line of a program's output as text, whatever bytes it has."""
    return raw.decode("utf-8", "replace").rstrip("\r")
