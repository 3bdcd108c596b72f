"""Servers as people and git name them, and the apps that a project's git remotes name."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gatling import names
from gatling.errors import CommandFailed, InvalidInput, MissingProgram

if TYPE_CHECKING:
    from collections.abc import Iterable

USER = "gatling"

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
    """The target of an ssh connection."""

    target: str
    """`user@host`, as ssh takes it."""
    port: str | None = None

    @property
    def options(self) -> list[str]:
        """ssh's options for it."""
        return ["-p", self.port] if self.port else []

    @property
    def name(self) -> str:
        """The host alone."""
        return self.target.rpartition("@")[2]

    def is_same(self, other: Host) -> bool:
        """Whether both are one user at one address."""
        return (self.target, self.port or "22") == (other.target, other.port or "22")


def parse(text: str) -> Host:
    """A host as a person writes it: `[user@]host[:port]`, `ssh://…`; the user is ours otherwise."""
    found = re.match(_PLAIN, text)
    host = _host(found, USER) if found else None
    if host is None:
        raise InvalidInput(f"{text!r} is not a host.", hint="For example gatling@example.com:22.")
    return host


def from_url(url: str, *, user: str | None = None) -> Host | None:
    """The host of a git remote, when it is reached by SSH (and, if asked for, as `user`)."""
    found = _by_ssh(url)
    if found is None or (user is not None and found["user"] != user):
        return None
    return _host(found, found["user"])


def url(host: Host, app: str) -> str:
    """Return the address of an app at a host, in a form that git accepts."""
    if host.port or ":" in host.name:
        shown = f"[{host.name}]" if ":" in host.name else host.name
        user = host.target.rpartition("@")[0] or USER
        return f"ssh://{user}@{shown}{f':{host.port}' if host.port else ''}/{app}"
    return f"{host.target}:{app}"


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


def apps_at(listing: Iterable[str], host: Host | None, here: Path) -> set[str]:
    """The apps that a project is pushed to at a host, or in the home `here` where there is none.

    The remote `gatling` decides, if it leads there; otherwise all others that do are listed.
    """
    found: set[str] = set()
    for match in (match for line in listing if (match := re.match(_REMOTE, line))):
        own = match["name"] == USER
        app = _app_there(match["url"], host, own) if host else _app_here(match["url"], here)
        if app is not None and own:
            return {app}
        found |= {app} if app is not None else set()
    return found


def in_project() -> Path | None:
    """The checkout that the current directory is in."""
    try:
        place = Path.cwd()
    except OSError:  # it was removed, or may not be read
        return None
    # os.path.exists: a directory that may not be read is not in a project of this user's
    within = (p for p in (place, *place.parents) if os.path.exists(p / ".git"))  # noqa: PTH110
    return next(within, None)


@functools.cache
def remotes() -> tuple[str, ...]:
    """The output of `git remote -v` in the current project. Outside a checkout git is not run."""
    if in_project() is None:
        return ()
    from gatling import process

    try:
        return tuple(process.output(["git", "remote", "-v"], timeout=10).splitlines())
    except (CommandFailed, MissingProgram):
        return ()


def _by_ssh(url: str) -> re.Match[str] | None:
    return re.match(_URL, url) or (re.match(_SCP_LIKE, url) if "://" not in url else None)


def _app_there(url: str, host: Host, own: bool) -> str | None:
    """The app of a remote at that host; remotes of other names are ours by their user."""
    at = from_url(url, user=None if own else USER)
    found = _by_ssh(url)
    if at is None or found is None or not at.is_same(host):
        return None
    return _app(url[found.end() :].removeprefix("/").removeprefix("~/"))


def _app_here(url: str, home: Path) -> str | None:
    path = Path(os.path.abspath(url.removeprefix("file://")))  # noqa: PTH100 (links are kept)
    same = path.parent == home / "apps" or path.parent.resolve() == (home / "apps").resolve()
    return _app(path.name) if same and path.suffix == ".git" else None


def _app(path: str) -> str | None:
    app = path.removesuffix("/").removesuffix(".git")
    return app if names.is_app(app) else None


def _host(found: re.Match[str], user: str | None) -> Host | None:
    port = found.groupdict().get("port")
    if port and int(port) > 65535:
        return None
    own = found["user"] or user
    name = found["host"].strip("[]")
    return Host(f"{own}@{name}" if own else name, port)
