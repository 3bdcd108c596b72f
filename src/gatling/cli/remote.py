"""From a laptop: the same command, run on the server by ssh.

Where to is said by `--host`, by `$GATLING_HOST`, or by the git remote of the project at hand. On
the other side ssh/access receives it.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gatling.cli.registry import COMMANDS
from gatling.errors import CommandFailed, InvalidInput, MissingProgram

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

USER = "gatling"
HERE = ("init", "up", "down", "recover", "receive", "job")
"""Commands for this machine only, as all of `server …` is but its keys."""
ASKING = ("help", "version", "open")
"""Commands that run on this machine, and may ask the server that is meant."""

# no leading '-', which ssh would take for an option, and nothing that ssh_config(5) expands
_HOST = r"(?P<host>[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
_TARGET = rf"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]{{0,63}})@)?{_HOST}"
_PORT = r"(?::(?P<port>[1-9][0-9]{0,4}))?"
# compiled when used: every command passes this module, and few need them
_PLAIN = rf"(?:ssh://)?{_TARGET}{_PORT}/?\Z"
_URL = rf"(?:ssh|git\+ssh|ssh\+git)://{_TARGET}{_PORT}/"
_SCP_LIKE = rf"{_TARGET}:(?!//)"  # git-clone(1), GIT URLS
_REMOTE = r"(?P<name>\S+)\t(?P<url>.+) \(push\)"


class Host(NamedTuple):
    """Where ssh goes to."""

    target: str
    """`user@host`, as ssh takes it."""
    port: str | None = None

    @property
    def options(self) -> list[str]:
        """ssh's options for it."""
        return ["-p", self.port] if self.port else []


def here(arguments: Sequence[str]) -> list[str]:
    """The words that are to be run on this machine; those meant for a server never come back.

    Raises InvalidInput for a host that cannot be one, MissingProgram without ssh.
    """
    named, words = _take_host(arguments)
    if words and words[0] in ASKING:
        if named is not None:
            parse(named)
            os.environ["GATLING_HOST"] = named  # for `implied`
        return words
    if not is_remote(words):
        if named is not None and words and not _asks_for_help(words):
            raise InvalidInput(
                f"`gatling {words[0]}` is for this machine only.", hint="Leave out --host."
            )
        return words
    host = parse(named) if named is not None else implied()
    if host is not None:
        go(host, words)
    return words


def is_remote(words: Sequence[str]) -> bool:
    """Whether the command can be run on another machine."""
    if not words or words[0] not in COMMANDS or words[0] in (*HERE, *ASKING):
        return False
    if words[0] == "server" and words[1:2] != ["keys"]:
        return False
    return not _asks_for_help(words)


def parse(text: str) -> Host:
    """A host as a person writes it: `[user@]host[:port]`, `ssh://…`; the user is ours otherwise."""
    found = re.match(_PLAIN, text)
    host = _host(found, USER) if found else None
    if host is None:
        raise InvalidInput(f"{text!r} is not a host.", hint="For example gatling@example.com:22.")
    return host


def from_url(url: str, *, user: str | None = None) -> Host | None:
    """The host of a git remote, when it is reached by SSH (and, if asked for, as `user`)."""
    found = re.match(_URL, url) or ("://" not in url and re.match(_SCP_LIKE, url)) or None
    if found is None or (user is not None and found["user"] != user):
        return None
    return _host(found, found["user"])


def choose(listing: Iterable[str]) -> Host | None:
    """The server of a project, from what `git remote -v` prints.

    The remote `gatling` decides, also when it is a directory: then the home is on this machine.
    """
    found = [match for line in listing if (match := re.match(_REMOTE, line))]
    for match in found:
        if match["name"] == USER:
            return from_url(match["url"])
    hosts = {host for match in found if (host := from_url(match["url"], user=USER))}
    return hosts.pop() if len(hosts) == 1 else None


def go(host: Host, words: Sequence[str]) -> NoReturn:
    """Become ssh, so that terminal, signals and exit status are its own."""
    terminal = words[0] == "console" or (words[0] == "run" and os.isatty(0) and os.isatty(1))
    flags = ["-t"] if terminal else []
    argv = ["ssh", *flags, *host.options, host.target, "--", shlex.join(words)]
    try:
        os.execvp("ssh", argv)  # noqa: S606
    except FileNotFoundError:
        from gatling import process

        raise process.missing("ssh") from None


def _take_host(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """`--host HOST` in front of the command, and what comes behind it."""
    host, rest = None, list(arguments)
    while rest and (rest[0] == "--host" or rest[0].startswith("--host=")):
        option, equals, value = rest.pop(0).partition("=")
        if not equals and not rest:
            return None, [option]  # the command line says what is missing
        host = value if equals else rest.pop(0)
    return host, rest


def _asks_for_help(words: Sequence[str]) -> bool:
    before = words[: words.index("--")] if "--" in words else words
    return any(word in ("-h", "--help", "--version") for word in before)


def implied() -> Host | None:
    """The server that is meant where none is named; None for this machine."""
    named = os.environ.get("GATLING_HOST")
    if named:
        return parse(named)
    if os.environ.get("GATLING_HOME"):
        return None
    return _of_project()


def _of_project() -> Host | None:
    """The server that the project at hand is pushed to; git is asked in a checkout only."""
    try:
        place = Path.cwd()
    except OSError:  # it was removed, or may not be read
        return None
    # os.path.exists: a directory that may not be read is not in a project of this user's
    if not any(os.path.exists(parent / ".git") for parent in (place, *place.parents)):  # noqa: PTH110
        return None
    from gatling import paths, process

    if paths.server_owner() == os.geteuid():  # on the server itself, as its own user
        return None
    try:
        return choose(process.output(["git", "remote", "-v"], timeout=10).splitlines())
    except (CommandFailed, MissingProgram):
        return None


def _host(found: re.Match[str], user: str | None) -> Host | None:
    port = found.groupdict().get("port")
    if port and int(port) > 65535:
        return None
    own = found["user"] or user
    name = found["host"].strip("[]")
    return Host(f"{own}@{name}" if own else name, port)
