"""The answers of a server, for commands that process them on this machine."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from gatling import process
from gatling.errors import CommandFailed, Exit, GatlingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.cli.targets import Host

SSH_FAILED = 255
"""ssh's exit status when it could not connect: ssh(1)."""


class NotReached(GatlingError):
    """A server that ssh could not reach, or that did not let this user in."""

    code = "not-reached"
    exit_status = Exit.HOST


class Answered(GatlingError):
    """The server's own error; with its exit status."""

    def __init__(self, what: str, hint: str, status: int) -> None:
        super().__init__(what, hint=hint)
        self.exit_status = Exit(status) if status in list(Exit) else Exit.FAILURE


def ask(host: Host, words: Sequence[str], *, timeout: float = 60) -> str:
    """The standard output of a command on a server.

    ssh cannot prompt here: the key must be loaded in an agent, or have no passphrase. Raises
    NotReached, Answered for an error of the command, MissingProgram without ssh.
    """
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", *host.options]
    argv = ["ssh", *options, host.target, "--", shlex.join(words)]
    try:
        return process.output(argv, timeout=timeout)
    except CommandFailed as error:
        if error.status is None or error.status < 0 or error.status == SSH_FAILED:
            raise NotReached(
                f"{host.target} could not be reached: {_last(error)}",
                hint=f"`ssh {host.target}` must connect without a prompt. `ssh-add` loads your key"
                " into the agent.",
            ) from None
        raise _answered(error, error.status) from None


def ask_json(host: Host, words: Sequence[str], *, timeout: float = 60) -> Any:
    """The JSON that a command on a server prints; raises as `ask`."""
    text = ask(host, [*words, "--json"], timeout=timeout)
    try:
        return json.loads(text)
    except ValueError:
        raise Answered(
            f"{host.target} did not answer with JSON.", "Update Gatling on the server.", 1
        ) from None


def _answered(error: CommandFailed, status: int) -> Answered:
    try:
        said = json.loads("\n".join(error.log))["error"]
        return Answered(str(said["message"]), str(said["hint"]), status)
    except (ValueError, KeyError, TypeError):
        return Answered(_last(error), "", status)


def _last(error: CommandFailed) -> str:
    lines = [line.removeprefix(" !").strip() for line in error.log if line.strip()]
    return lines[-1] if lines else error.what
