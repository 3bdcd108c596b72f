"""Trees that Distillery has made: how to control their script like that of `mix release`.

It knows other commands, and writes its resolved config to a directory, from which it also takes
what it finds there; so nothing of another run may be in that.
"""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

from gatling import proc
from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.state.releases import Release

FLAGS = "ERL_ZFLAGS"
"""The variable for the flags that Gatling gives to a node: erl(1)."""

_COMMANDS = {"remote": "remote_console"}
"""Distillery's names of commands of `mix release`."""
_CHANGING = ("upgrade", "downgrade", "install", "unpack")
"""Commands that would change the tree."""

_ONCE_NAME = "once."
_ONCE = (
    f'export RELEASE_MUTABLE_DIR="$RELEASE_TMP/{_ONCE_NAME}$$"; rm -rf "$RELEASE_MUTABLE_DIR";'
    ' mkdir -p "$RELEASE_TMP" && mkdir -m 700 "$RELEASE_MUTABLE_DIR" || exit;'
    """ trap : INT TERM HUP; trap 'rm -rf "$RELEASE_MUTABLE_DIR"' EXIT; "$0" "$@\""""
)
"""Runs a program with such a directory of its own, which goes with it: there are secrets in it.

It is named by its process: see `sweep`."""


def made(tree: Path, release: Release) -> bool:
    """Whether it was Distillery that made this release."""
    return (tree / "releases" / release.version / f"{release.name}.sh").is_file()


def environment(env: dict[str, str], *, cookie_in_file: bool) -> dict[str, str]:
    """The environment of whatever is run of it, from the one for `mix release`.

    With `cookie_in_file` both the node and the script find the cookie in ~/.erlang.cookie.
    """
    own = {"REPLACE_OS_VARS": "true"} | env | {"RELEASE_MUTABLE_DIR": env["RELEASE_TMP"]}
    return own if cookie_in_file else own | {"COOKIE": env.get("RELEASE_COOKIE", "")}


def of_instance(env: dict[str, str]) -> dict[str, str]:
    """The same for an instance's node, whose cookie is in no file then.

    Commands are given it by the script, and given twice it would not count.
    """
    cookie = env.get("COOKIE")
    flag = f" -setcookie {shlex.quote(cookie)}" if cookie else ""
    return env | {FLAGS: env[FLAGS] + flag}


def arguments(release: Release, given: tuple[str, ...]) -> tuple[str, ...]:
    """A one-off command in its words; raises InvalidInput for what is not to be run."""
    name, *rest = given
    if name in _CHANGING:
        raise InvalidInput(
            f"{name} would change the tree of {release.label}, which must stay as it was built.",
            hint="A push upgrades the running node, and `gatling rollback` goes back the same way.",
        )
    return (_COMMANDS.get(name, name), *rest)


def once(argv: list[str], *, private_tmp: bool) -> list[str]:
    """The command line of a one-off command, which may have a RELEASE_TMP for itself anyway."""
    return argv if private_tmp else ["/bin/sh", "-c", _ONCE, *argv]


def sweep(temporary: Path) -> None:
    """Remove what is left in the RELEASE_TMP of one-off commands that were killed."""
    for directory in temporary.glob(f"{_ONCE_NAME}*"):
        pid = directory.name.removeprefix(_ONCE_NAME)
        if not pid.isdecimal() or proc.start_time(int(pid)) is None:
            shutil.rmtree(directory, ignore_errors=True)


def migrates(tree: Path, release: Release) -> bool:
    """Whether there is a custom command `migrate`."""
    return (tree / "releases" / release.version / "commands" / "migrate.sh").is_file()
