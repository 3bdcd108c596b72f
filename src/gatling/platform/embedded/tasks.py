"""Programs of apps on the embedded home: with the rights of its user, whose everything is."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from gatling import proc, process
from gatling.cleanup import finally_
from gatling.platform.base import run_mark
from gatling.platform.conversation import Conversation, Pipes
from gatling.project import source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import NoReturn

    from gatling.errors import CommandFailed
    from gatling.paths import AppPaths
    from gatling.platform.base import Task
    from gatling.process import Finished

ENDING_SECONDS = 10.0
"""Time for a program to exit after it closes its output or gets a signal, in seconds."""


@contextlib.contextmanager
def _marked(task: Task) -> Iterator[dict[str, str]]:
    """The environment of a program; at the end of the block all that it has started ends."""
    own = os.urandom(8).hex()
    of_deployment = {proc.MARK: task.mark} if task.mark else {}
    with finally_(lambda: proc.end_marked(own, variable=proc.TASK)):
        yield task.env | of_deployment | {proc.TASK: own}


class LocalTasks:
    """Implements `Tasks`; see there for the calls."""

    def run(
        self, task: Task, *, timeout: float, on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """See Tasks; what the program leaves is ended by its mark."""
        with _marked(task) as env:
            return process.run(
                task.argv,
                timeout=timeout,
                cwd=task.cwd,
                env=env,
                on_line=on_line,
                nice=task.nice,
            )

    def talk(self, task: Task) -> Conversation:
        """See Tasks; what the program leaves is ended by its mark."""
        marked = contextlib.ExitStack()
        env = marked.enter_context(_marked(task))
        pipes = Pipes()
        try:
            started = process.start(
                task.argv, cwd=task.cwd, env=env, stdin=pipes.input, output=pipes.output,
                nice=task.nice,
            )  # fmt: skip
        except BaseException:
            pipes.close()
            raise
        finally:
            pipes.given()
        ended = os.pidfd_open(started.pid)

        def how(tail: tuple[str, ...]) -> CommandFailed:
            try:
                status = started.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:  # it has closed its output, and goes on
                stop()
                status = started.wait()
            return process.exit_error(task.argv, status, tail)

        def stop() -> None:
            proc.end_group(started.pid)

        def after() -> None:
            started.wait()
            os.close(ended)
            marked.close()

        return Conversation(pipes=pipes, ended=ended, how=how, stop=stop, after=after)

    def become(self, task: Task) -> NoReturn:
        """See Tasks: this process waits for it, passes signals on, and ends what it leaves."""
        with _marked(task) as env:
            status = process.attend(task.argv, env)
        sys.exit(status if status >= 0 else 128 - status)

    def end(self, app: str, mark: str) -> None:  # noqa: ARG002
        """See Tasks."""
        proc.end_marked(mark)

    def end_runs(self, paths: AppPaths, token: str = "") -> None:
        """See Tasks."""
        proc.end_marked(run_mark(paths, token), grace=0.0 if token else ENDING_SECONDS)

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
