"""Access: a link that works once, and the cookie that a browser gets for it.

The paths of all pages begin with a random name. Cookies are not separated by port, so that name is
what keeps the cookie from other programs that listen on loopback: browsers send it to no other
path. Pure: requests come as headers, refusals go as errors.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from gatling.errors import NotAllowed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

COOKIE = "gatling-dashboard"
LINK_SECONDS = 120.0
"""How long the link works."""
ADDRESS = "127.0.0.1"


class Shut(NotAllowed):
    """A request that is not let in."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, hint="`gatling dashboard` opens it with a new link.")
        self.reason = reason
        """For the audit."""


class Door:
    """The link, the cookie and the token of one run of the dashboard."""

    def __init__(self, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`port` is the one that the browser connects to."""
        self._clock, self._made_at = clock, clock()
        self._key: str | None = secrets.token_urlsafe(32)
        self._cookie: str | None = None
        self.base = f"/{secrets.token_urlsafe(12)}"
        self.host = f"{ADDRESS}:{port}"
        self.origin = f"http://{self.host}"
        self.token = secrets.token_urlsafe(32)
        """The token of all forms."""

    @property
    def path(self) -> str:
        """The path of the link."""
        return f"{self.base}/enter/{self._key}"

    def enter(self, key: str) -> str:
        """Exchange the link's key for the value of the Set-Cookie header; raises Shut."""
        if self._key is None or not secrets.compare_digest(key.encode(), self._key.encode()):
            raise Shut("This link is not valid. It works only once.", "link is not valid")
        self._key = None
        if self._clock() - self._made_at > LINK_SECONDS:
            raise Shut("This link has expired.", "link has expired")
        self._cookie = secrets.token_urlsafe(32)
        return f"{COOKIE}={self._cookie}; Path={self.base}/; HttpOnly; SameSite=Strict"

    def check_place(self, hosts: Sequence[str]) -> None:
        """Raise Shut for a request that was meant for another host, as after DNS rebinding."""
        if list(hosts) != [self.host]:
            raise Shut("This request was sent to another address.", "another host")

    def check_source(self, headers: Mapping[str, str], *, entering: bool = False) -> None:
        """Raise Shut for a request that another page made, or that is shown in a frame."""
        if headers.get("sec-fetch-dest", "document") in ("iframe", "frame", "embed", "object"):
            raise Shut("The dashboard is not shown inside of other pages.", "in a frame")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and not entering:
            raise Shut("Another page made this request.", "another origin")
        if headers.get("origin", self.origin) != self.origin:
            raise Shut("Another page made this request.", "another origin")

    def check_cookie(self, cookies: Mapping[str, str]) -> None:
        """Raise Shut without the cookie."""
        given = cookies.get(COOKIE, "")
        if self._cookie is None or not secrets.compare_digest(
            given.encode(), self._cookie.encode()
        ):
            raise Shut("This browser has no access to the dashboard.", "no access")

    def check_form(self, headers: Mapping[str, str], token: str) -> None:
        """Raise Shut for a form that is not of a page of ours. All browsers send its origin."""
        if headers.get("origin") != self.origin:
            raise Shut("Another page made this request.", "another origin")
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            raise Shut("The form is not from this dashboard. Load the page again.", "no token")
