"""A visit of a page, and what a page is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

from gatling.errors import InvalidInput, NotAllowed
from gatling.ssh import policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatling.platform.open import Gatling
    from gatling.ssh.policy import Grant

DATABASES, SETTINGS, JOBS = "/databases", "/apps/{app}/settings", "/apps/{app}/jobs"
"""Pages that are shown after a change."""


def changed(page: str, names: Sequence[str]) -> str:
    """A page that leads to what was changed on it: the settings or the variables of these names."""
    if page != SETTINGS or not names:
        return page
    return f"{page}?{urlencode({'at': ','.join(names)})}#at-{quote(names[0])}"


class Visit(NamedTuple):
    """A request for a page, which is permitted."""

    grant: Grant
    app: str
    """Empty for a page that is about no single app."""
    ident: str
    query: Mapping[str, str]

    def may(self, command: str, app: str | None = None) -> bool:
        """Whether the person may use a command for that app, by default the page's."""
        try:
            policy.check(self.grant, policy.Request(command, app or self.app or None))
        except NotAllowed:
            return False
        return True

    def number(self) -> int:
        """The `{id}` of the path; raises InvalidInput."""
        if not (self.ident.isascii() and self.ident.isdecimal() and len(self.ident) < 16):
            raise InvalidInput(f"{self.ident[:40]!r} is not a number.")
        return int(self.ident)


class Page(NamedTuple):
    """A page, and how it is made."""

    path: str
    """With `{app}` and `{id}`."""
    commands: tuple[str, ...]
    """The commands whose permissions it needs."""
    template: str
    gather: Callable[[Gatling, Visit], dict[str, Any]]
    """Reads what the template shows. It runs in a thread and asks no node."""
    live: Literal["", "node", "pings", "databases", "rewind"] = ""
    """Questions to nodes, for their numbers or whether they answer, or to clusters and repositories
    of backups. `gather` gives the names of the apps or databases as `asked`, and for a rewind one
    name of both app and release."""
    clusters: bool = True
    """Whether it works for an app on a cluster."""
