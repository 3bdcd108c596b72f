"""Programs of apps on the embedded home: with the rights of its user, whose everything is."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from gatling import process
from gatling.project import source
from gatling.supervisor.base import run_mark
from gatling.supervisor.conversation import Conversation, Pipes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import NoReturn

    from gatling.errors import CommandFailed
    from gatling.home import AppPaths
    from gatling.process import Finished
    from gatling.supervisor.base import Task

ENDING_SECONDS = 10.0
"""What a program gets to end when it has closed its output, or is told to."""


class LocalTasks:
    """Implements `Tasks`; see there for the calls."""

    def __init__(self) -> None:
        self._spoken_to: set[str] = set()
        """Marks of programs that are being talked to."""

    def run(
        self, task: Task, *, timeout: float, on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """See Tasks; what a build or a run leaves is ended by its mark."""
        marked = {process.MARK: task.mark} if task.mark else {}
        try:
            return process.run(
                task.argv,
                timeout=timeout,
                cwd=task.cwd,
                env=task.env | marked,
                on_line=on_line,
                nice=task.nice,
            )
        finally:
            # otherwise it is done when what is talked to, which has that mark too, has ended
            if task.mark and task.kind != "release" and task.mark not in self._spoken_to:
                process.end_marked(task.mark)

    def talk(self, task: Task) -> Conversation:
        """See Tasks; what it leaves is ended by its mark."""
        marked = {process.MARK: task.mark} if task.mark else {}
        pipes = Pipes()
        try:
            started = process.start(
                task.argv, cwd=task.cwd, env=task.env | marked, stdin=pipes.input,
                output=pipes.output, nice=task.nice,
            )  # fmt: skip
        except BaseException:
            pipes.close()
            raise
        finally:
            pipes.given()
        ended = os.pidfd_open(started.pid)
        self._spoken_to.add(task.mark)

        def how(tail: tuple[str, ...]) -> CommandFailed:
            try:
                status = started.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:  # it has closed its output, and goes on
                stop()
                status = started.wait()
            return process.ended(task.argv, status, tail)

        def stop() -> None:
            process.end_group(started.pid)

        def after() -> None:
            started.wait()
            os.close(ended)
            self._spoken_to.discard(task.mark)
            if task.mark:
                process.end_marked(task.mark)

        return Conversation(pipes=pipes, ended=ended, how=how, stop=stop, after=after)

    def become(self, task: Task) -> NoReturn:
        """See Tasks."""
        marked = {process.MARK: task.mark} if task.mark else {}
        os.execve(task.argv[0], list(task.argv), task.env | marked)  # noqa: S606

    def end(self, app: str, mark: str) -> None:  # noqa: ARG002
        """See Tasks."""
        process.end_marked(mark)

    def end_runs(self, paths: AppPaths, token: str = "") -> None:
        """See Tasks."""
        process.end_marked(run_mark(paths, token), grace=0.0 if token else ENDING_SECONDS)

    def discard(self, paths: AppPaths, directory: Path) -> None:  # noqa: ARG002
        """See Tasks."""
        shutil.rmtree(directory, ignore_errors=True)

    def staged(self, paths: AppPaths, previous: Path | None) -> Path:  # noqa: ARG002
        """See Tasks: it is this user's anyway."""
        return paths.staging

    def export(
        self, paths: AppPaths, commit: str, directory: str, on_line: Callable[[str], None]
    ) -> None:
        """See Tasks."""
        source.export(paths, commit, on_line, directory)
