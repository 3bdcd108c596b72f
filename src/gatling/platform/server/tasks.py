"""Programs of apps on a server: each in a unit of its own, as the app's user, in a sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from gatling import process
from gatling.errors import BuildFailed, CommandFailed, HelperFailed, TimedOut
from gatling.platform import logs
from gatling.platform.base import Task
from gatling.platform.conversation import Conversation, Pipes
from gatling.platform.limits import Limits
from gatling.platform.server.helper import client
from gatling.process import Finished
from gatling.releases import safe_copy, store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import NoReturn

    from gatling.paths import AppPaths

PUMP_SECONDS = 5.0
DISCARD_SECONDS = 120.0
EXPORT_SECONDS = 1200.0
STOPPING_SECONDS = 30.0
EXPORT_LIMITS = Limits(memory="75%", tasks=512)


class UnitTasks:
    """Implements `Tasks`; see there for the calls."""

    def run(
        self, task: Task, *, timeout: float, on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """See Tasks; systemd ends what the program leaves."""
        finished, result = _run(task, timeout, on_line)
        if finished.status == 0:
            return finished
        if result == "timeout":
            name = os.path.basename(task.argv[0])  # noqa: PTH119 (a word, not a path)
            raise TimedOut(
                f"{name} did not end within {timeout:g} seconds and was stopped.", log=finished.tail
            )
        raise _ended(task, finished.status, result, finished.tail)

    def talk(self, task: Task) -> Conversation:
        """See Tasks; systemd ends what the program leaves."""
        pipes = Pipes()
        try:
            files = (pipes.input, pipes.output, pipes.output)
            call = client.Call("run", _request(task, 0), files)
        except BaseException:
            pipes.close()
            raise
        finally:
            pipes.given()

        def how(tail: tuple[str, ...]) -> CommandFailed:
            answer = call.answer()
            return _ended(task, int(answer["status"]), str(answer.get("result", "")), tail)

        def after() -> None:
            with contextlib.suppress(OSError, HelperFailed):  # `how` has had the answer
                call.connection.settimeout(STOPPING_SECONDS)
                call.answer()
            call.connection.close()

        ended = call.connection.fileno()
        return Conversation(pipes=pipes, ended=ended, how=how, stop=call.cancel, after=after)

    def expect(self, task: Task, commit: str, branches: Sequence[str]) -> None:
        """See Tasks: the hook of a push only hands it over."""

    def become(self, task: Task) -> NoReturn:
        """See Tasks: this process waits for it, and goes when it has gone."""
        terminal = os.isatty(0) and os.isatty(1)
        # a signal for this process ends it, the connection with it, and so the program
        logs.end_with_reader(1)  # who is gone wants no more of it
        files, pumps = ((0, 1, 2), []) if terminal else _apart_from_terminals()
        call = client.Call("run", _request(task, 0, terminal=terminal), files)
        for fd in set(files) - {0, 1, 2}:
            os.close(fd)
        status = int(call.answer()["status"])
        for pump in pumps:
            pump.join(PUMP_SECONDS)
        sys.exit(status if status >= 0 else 128 - status)

    def end(self, app: str, mark: str) -> None:  # noqa: ARG002 (one deployment at a time)
        """See Tasks."""
        client.ask("end", app=app)

    def end_runs(self, paths: AppPaths, token: str = "") -> None:
        """See Tasks."""

    def discard(self, paths: AppPaths, directory: Path) -> None:
        """See Tasks: the app's own user removes it."""
        if directory.exists():
            argv = ["/bin/rm", "-rf", "--", str(directory)]
            with contextlib.suppress(CommandFailed):
                self.run(Task(paths, "build", argv, _environment(), paths.build),
                         timeout=DISCARD_SECONDS)  # fmt: skip

    def staged(self, paths: AppPaths, previous: Path | None) -> Path:
        """See Tasks: a copy that belongs to Gatling, in which no link leads out."""
        copy = paths.releases / store.INCOMING
        safe_copy.copy(paths.staging, copy, previous)
        return copy

    def export(
        self, paths: AppPaths, commit: str, directory: str, on_line: Callable[[str], None]
    ) -> None:
        """See Tasks: git is run by the app's user, in the build's sandbox."""
        quarantine = os.environ.get("GIT_QUARANTINE_PATH")
        if quarantine:
            # only the app's user can come here, and that user builds what was pushed
            os.chmod(quarantine, 0o755)  # noqa: PTH101, S103
        argv = [sys.executable, "-I", "-m", "gatling.platform.server.export",
                str(paths.home), paths.name, commit, directory]  # fmt: skip
        env = _environment() | {"HOME": str(paths.build)}
        if quarantine:
            env["GIT_QUARANTINE_PATH"] = quarantine
        told: dict[str, Any] = {}

        def line(text: str) -> None:
            if text.startswith("\0"):
                told.update(json.loads(text[1:]))
            else:
                on_line(text)

        task = Task(paths, "build", argv, env, paths.build, limits=EXPORT_LIMITS)
        try:
            self.run(task, timeout=EXPORT_SECONDS, on_line=line)
        except CommandFailed as error:
            what = told.get("what", f"The source could not be exported: {error.what}")
            log = told.get("log", error.log)
            raise BuildFailed(what, hint=told.get("hint", ""), log=log) from None


def _apart_from_terminals() -> tuple[tuple[int, int, int], list[threading.Thread]]:
    """Standard input, output and error for an app's program, with pipes in the place of terminals.

    A program that has a terminal open could read all input there; systemd-run gives one of its own.
    """
    files, pumps = [], []
    for fd in (0, 1, 2):
        if not os.isatty(fd):
            files.append(fd)
            continue
        reading, writing = os.pipe()
        files.append(reading if fd == 0 else writing)
        ends = (0, writing) if fd == 0 else (reading, fd)
        pump = threading.Thread(target=_pump, args=ends, daemon=True)
        pump.start()
        if fd != 0:  # what waits for somebody to type is not waited for
            pumps.append(pump)
    return (files[0], files[1], files[2]), pumps


def _pump(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        while chunk := os.read(source, 65536):
            os.write(target, chunk)
    if source == 0:
        os.close(target)


def _run(task: Task, timeout: float, on_line: Callable[[str], None] | None) -> tuple[Finished, str]:
    """The end of a program, and systemd's word for it."""
    answer, tail, seconds = attend("run", _request(task, timeout), on_line)
    status = int(answer["status"])
    return Finished(tuple(task.argv), status, tail, seconds), str(answer.get("result", ""))


def attend(
    verb: str,
    arguments: dict[str, Any],
    on_line: Callable[[str], None] | None,
    stdin: int | None = None,
) -> tuple[dict[str, Any], tuple[str, ...], float]:
    """Have the helper run a program; its answer, the last lines of output, and seconds.

    `stdin` is an open file that the program reads, or writes to; without it, there is nothing.
    """
    reading, writing = os.pipe()
    with open(os.devnull) as nothing:  # noqa: PTH123
        given = nothing.fileno() if stdin is None else stdin
        try:
            call = client.Call(verb, arguments, (given, writing, writing))
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
    answer: dict[str, Any] = {}
    error: list[BaseException] = []

    def wait() -> None:
        try:
            answer.update(call.answer())
        except BaseException as raised:  # noqa: BLE001 (handed on to who waits)
            error.append(raised)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    try:
        tail, seconds = process.read_all(reading, on_line)
        waiting.join()
    except BaseException:
        call.cancel()
        waiting.join(30)
        raise
    if error:
        raise error[0]
    return answer, tail, seconds


def _ended(task: Task, status: int, result: str, tail: tuple[str, ...]) -> CommandFailed:
    """Return the error for a program that ended so; `result` is systemd's word for it."""
    error = process.exit_error(task.argv, status, tail)
    if result == "oom-kill" or (status == -9 and result != "success"):
        surely = "" if result == "oom-kill" else " most likely"
        limit = f" ({task.limits.memory})" if task.limits.memory else ""
        what = error.what.removesuffix(".")
        return CommandFailed(f"{what}:{surely} it exceeded its memory limit{limit}.", log=tail)
    return error


def _request(task: Task, timeout: float, *, terminal: bool = False) -> dict[str, Any]:
    return {
        "app": task.paths.name,
        "kind": task.kind,
        "id": os.urandom(8).hex(),
        "argv": list(task.argv),
        "env": task.env,
        "cwd": str(task.cwd),
        "timeout": timeout,
        "nice": task.nice,
        "limits": task.limits._asdict(),
        "terminal": terminal,
    }


def _environment() -> dict[str, str]:
    return {"LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}
