"""The VM in which mix builds: it starts while git and the export work, and waits for a line.

A VM needs as long to start as a small project to compile. Its environment, directory and limits
depend on the app's settings, its config and the toolchain, and the pushed commit may change them:
it is started as the commit before would have it, and again if that was not right.
"""

from __future__ import annotations

import base64
import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import process
from gatling.beam import toolbox
from gatling.build import boot, environment
from gatling.platform.base import Task
from gatling.platform.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatling.platform.base import Surroundings
    from gatling.platform.conversation import Conversation
    from gatling.platform.interface import Tasks
    from gatling.project.settings import Build

SCRIPT = Path(__file__).parent / "priv" / "build.exs"
EVAL = "System.argv() |> hd() |> Code.eval_file()"
"""Evaluates the script: Elixir compiles what it is given as a file."""


def task(
    around: Surroundings, config: Mapping[str, str], settings: Build, mark: str, commit: str
) -> Task:
    """The VM of a build as a task: all that it cannot change once it runs.

    Raises MissingProgram, or BuildFailed for a toolchain that has gone.
    """
    (program,) = environment.program_in(around, ["elixir"])
    program = _resolved(program)
    variables = environment.build_environment(around, config, commit)
    cache = toolbox.cache(around.paths)
    options, words = boot.arguments(cache, program, variables["PATH"])
    return Task(
        around.paths,
        "build",
        [program, *options, "-e", EVAL, str(SCRIPT), str(cache), str(toolbox.SOURCES), *words],
        variables,
        around.paths.source / settings.directory,
        mark=mark,
        nice=process.BACKGROUND,
        limits=Limits(settings.memory, settings.tasks, settings.cpu),
    )


def _resolved(program: str) -> str:
    """The script to which a link leads: it resolves each link itself, with three programs.

    A link to a program of another name is left alone: that one looks at the name of the link.
    """
    real = os.path.realpath(program)
    return real if os.path.basename(real) == os.path.basename(program) else program  # noqa: PTH119


class Vm(Struct, frozen=True):
    """One that was started; its owner closes it."""

    task: Task
    conversation: Conversation

    def say(self, arguments: Sequence[str]) -> None:
        """Let it begin: the directory of the project, and the arguments of the mix task."""
        text = "\0".join(arguments).encode("utf-8", "surrogateescape")
        self.conversation.say(base64.b64encode(text).decode())

    def attend(self, seconds: float, on_line: Callable[[str], None]) -> None:
        """Hand on what it prints until its end; raises CommandFailed.

        The project finds nothing on its standard input.
        """
        self.conversation.hang_up()
        name = Path(self.task.argv[0]).name
        self.conversation.attend(time.monotonic() + seconds, seconds, on_line, name=name)

    def close(self) -> None:
        """End it if it still waits for its line."""
        self.conversation.close()


def start(tasks: Tasks, wanted: Task) -> Vm:
    """Start one, which waits for its line; raises CommandFailed."""
    return Vm(wanted, tasks.talk(wanted))


def fitting(tasks: Tasks, early: Vm | None, make: Callable[[], Task]) -> Vm:
    """The one that was started early, if it is what `make` wants; else one that is started now."""
    with contextlib.ExitStack() as unfit:
        if early is not None:
            unfit.callback(early.close)
        wanted = make()
        if early is not None and early.task == wanted:
            unfit.pop_all()
            return early
    return start(tasks, wanted)
