"""From a laptop: the same command, run on the server by ssh.

`--host`, `$GATLING_HOST` or the git remote of the project at hand names the server; `--app`,
`$GATLING_APP` or the same remote names the app. On the other side ssh/access receives the command.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from gatling import names, paths
from gatling.cli import habits, targets
from gatling.cli import words as wording
from gatling.cli.registry import COMMANDS
from gatling.errors import InvalidInput, Misused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from gatling.cli.targets import Host

HERE = ("init", "remote", "up", "down", "recover", "receive", "job")
"""Commands for this machine only, as all of `server …` is but its keys."""
ASKING = ("help", "version", "completion", "open", "doctor", "dashboard")
"""Commands that run on this machine, and may ask the server that is meant."""


def here(root: click.Group, arguments: Sequence[str]) -> list[str]:
    """The words that are to be run on this machine; those meant for a server never come back.

    Raises InvalidInput for a host or app that cannot be one, MissingProgram without ssh.
    """
    given, words = wording.take_options(arguments)
    words = habits.translated(root, words)
    named = given.get("--host")
    if named is not None:
        _check_host(named, words)
    is_whole = not isinstance(wording.find(root, words).command, click.Group)
    host = _host(named) if is_whole and is_remote(words) else None
    quiet = "--json" in words

    def app_meant(found: wording.Found) -> str | None:
        there = implied() if words[0] in ASKING else host
        app = _implied_app(there, found)
        if app is not None and not quiet:
            _announce(app, there)
        return app

    words = wording.with_app(root, words, named=given.get("--app"), implied=app_meant)
    if host is not None:
        go(host, words)
    return words


def read(root: click.Group, words: Sequence[str]) -> list[str]:
    """The words of somebody who came over SSH, as a command reads them.

    They name their app: no directory of the server's stands for one.
    """
    return wording.with_app(root, habits.translated(root, words))


def is_remote(words: Sequence[str]) -> bool:
    """Whether the command can be run on another machine."""
    if not words or words[0] not in COMMANDS or words[0] in (*HERE, *ASKING):
        return False
    if words[0] == "server" and words[1:2] != ["keys"]:
        return False
    return not wording.asks_for_help(words)


def go(host: Host, words: Sequence[str]) -> NoReturn:
    """Become ssh, so that terminal, signals and exit status are its own."""
    terminal = words[0] in ("console", "top") or (
        (words[0] == "run" or words[:2] == ["db", "psql"]) and os.isatty(0) and os.isatty(1)
    )
    flags = ["-t"] if terminal else []
    argv = ["ssh", *flags, *host.options, host.target, "--", shlex.join(words)]
    try:
        os.execvp("ssh", argv)  # noqa: S606
    except FileNotFoundError:
        from gatling import process

        raise process.missing("ssh") from None


def implied() -> Host | None:
    """The server that is meant where none is named; None for this machine."""
    named = os.environ.get("GATLING_HOST")
    if named:
        return targets.parse(named)
    if os.environ.get("GATLING_HOME"):
        return None
    if targets.in_project() is None or paths.server_owner() == os.geteuid():
        return None  # the latter is the server itself, as its own user
    return targets.choose(targets.remotes())


def app_here() -> str | None:
    """The app that is meant where none is named, for an advice; None where it is not clear."""
    named = os.environ.get("GATLING_APP")
    if named:
        return named if names.is_app(named) else None
    try:
        there = targets.apps_at(targets.remotes(), implied(), paths.default_root())
    except InvalidInput:  # GATLING_HOST cannot be a host
        return None
    return there.pop() if len(there) == 1 else None


def _check_host(named: str, words: Sequence[str]) -> None:
    """Take `--host` for a command that asks the server itself; refuse it for one that does not."""
    if words and words[0] in ASKING:
        targets.parse(named)
        os.environ["GATLING_HOST"] = named  # for `implied`
    elif words and not is_remote(words) and not wording.asks_for_help(words):
        raise InvalidInput(
            f"`gatling {words[0]}` runs only on this machine.", hint="Leave out --host."
        )


def _host(named: str | None) -> Host | None:
    return targets.parse(named) if named is not None else implied()


def _implied_app(host: Host | None, found: wording.Found) -> str | None:
    """The app of `$GATLING_APP`, or the one that the project's git remotes name at that host.

    Raises Misused where there is none and the command cannot do without.
    """
    named = os.environ.get("GATLING_APP")
    if named:
        if not names.is_app(named):
            raise InvalidInput(f"GATLING_APP is {named!r}, which cannot be an app's name.")
        return named
    there = sorted(targets.apps_at(targets.remotes(), host, paths.default_root()))
    if len(there) == 1:
        return there[0]
    if not wording.is_app_needed(found):
        return None
    command = " ".join(found.path)
    where = f"on {host.target}" if host else f"in {paths.default_root()}"
    project = targets.in_project()
    if there:
        raise Misused(
            f"The git remotes of {project} name several apps {where}: {', '.join(there)}.",
            hint=f"Choose one: gatling {command} {there[0]}",
        )
    looked = (
        f"no git remote of {project} names one {where}"
        if project
        else "the current directory is in no git project"
    )
    raise Misused(
        f"No app is named. GATLING_APP is not set, and {looked}.",
        hint=f"Name the app: gatling {command} APP, or -a APP.\n{found.context.get_usage()}",
    )


def _announce(app: str, host: Host | None) -> None:
    """Say once which app is meant, beside the output."""
    from gatling.ui.output import echo

    echo(f"{app} on {host.name if host else 'this machine'}", err=True, style="dim")
