"""Programs of apps on the embedded home: with the rights of its user, whose everything is."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from gatling import process
from gatling.project import source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import NoReturn

    from gatling.home import AppPaths
    from gatling.process import Finished
    from gatling.supervisor.base import Task


class LocalTasks:
    """Implements `Tasks`; see there for the calls."""

    def run(
        self, task: Task, *, timeout: float, on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """See Tasks; what a build leaves is ended by its mark."""
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
            if task.mark and task.kind == "build":
                process.end_marked(task.mark)

    def become(self, task: Task) -> NoReturn:
        """See Tasks."""
        os.execve(task.argv[0], list(task.argv), task.env)  # noqa: S606

    def end(self, app: str, mark: str) -> None:  # noqa: ARG002
        """See Tasks."""
        process.end_marked(mark)

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
