"""Programs that are talked to, as the user of an embedded home. Loads little: a hook starts one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from gatling import proc, process
from gatling.cleanup import finally_
from gatling.platform.conversation import Conversation, Pipes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gatling.errors import CommandFailed

ENDING_SECONDS = 10.0
"""Time for a program to exit after it closes its output or gets a signal, in seconds."""


@contextlib.contextmanager
def marked(env: Mapping[str, str], mark: str) -> Iterator[dict[str, str]]:
    """The environment of a program; at the end of the block all that it has started ends.

    `mark` is that of its deployment, if it is part of one.
    """
    own = os.urandom(8).hex()
    of_deployment = {proc.MARK: mark} if mark else {}
    with finally_(lambda: proc.end_marked(own, variable=proc.TASK)):
        yield {**env, **of_deployment, proc.TASK: own}


def start(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path, *, mark: str, nice: int
) -> Conversation:
    """Start one; what it leaves is ended by its mark. Raises CommandFailed or MissingProgram."""
    leaving = contextlib.ExitStack()
    variables = leaving.enter_context(marked(env, mark))
    pipes = Pipes()
    try:
        started = process.start(
            argv, cwd=cwd, env=variables, stdin=pipes.input, output=pipes.output, nice=nice
        )
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
        return process.exit_error(argv, status, tail)

    def stop() -> None:
        proc.end_group(started.pid)

    def after() -> None:
        started.wait()
        os.close(ended)
        leaving.close()

    return Conversation(pipes=pipes, ended=ended, how=how, stop=stop, after=after)
