"""Programs of apps on the embedded home: with the rights of its user, whose everything is."""

from __future__ import annotations

import contextlib
import shutil
import sys
from typing import TYPE_CHECKING

from gatling import proc, process
from gatling.platform.base import run_mark
from gatling.platform.embedded import headstart, talking
from gatling.project import source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import NoReturn

    from gatling.paths import AppPaths
    from gatling.platform.base import Task
    from gatling.platform.conversation import Conversation
    from gatling.process import Finished


class LocalTasks:
    """Implements `Tasks`; see there for the calls."""

    def run(
        self, task: Task, *, timeout: float, on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """See Tasks; what the program leaves is ended by its mark."""
        with talking.marked(task.env, task.mark) as env:
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
        return talking.start(task.argv, task.env, task.cwd, mark=task.mark, nice=task.nice)

    def expect(self, task: Task, commit: str, branches: Sequence[str]) -> None:
        """See Tasks: noted for the hook of the next push."""
        with contextlib.suppress(OSError):  # a full disk, say
            headstart.note(task.paths.root, task, commit, branches)

    def become(self, task: Task) -> NoReturn:
        """See Tasks: this process waits for it, passes signals on, and ends what it leaves."""
        with talking.marked(task.env, task.mark) as env:
            status = process.attend(task.argv, env)
        sys.exit(status if status >= 0 else 128 - status)

    def end(self, app: str, mark: str) -> None:  # noqa: ARG002
        """See Tasks."""
        proc.end_marked(mark)

    def end_runs(self, paths: AppPaths, token: str = "") -> None:
        """See Tasks."""
        proc.end_marked(run_mark(paths, token), grace=0.0 if token else talking.ENDING_SECONDS)

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
