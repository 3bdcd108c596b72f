"""An app's proxy options: typed, validated, and nothing that nginx could read otherwise.

The same checks hold for the settings' own values and for those that root's helper receives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gatling import names
from gatling.errors import InvalidInput
from gatling.project import headers

if TYPE_CHECKING:
    from collections.abc import Sequence


SIZE = r"(0|[1-9][0-9]{0,5}[kmgKMG])"
MAX_SECONDS = 86400
WWW = ("off", "to-apex", "to-www")
HTTPS = ("auto", "off", "redirect")
MAX_HSTS = 63072000
"""Two years, in seconds: what browsers' lists of HTTPS-only domains ask for."""

EVERYWHERE = "*"
"""In place of a domain: all of the app's."""

MAX_USERS = 1000
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}\Z")
_HASH = re.compile(r"\$6\$(rounds=[1-9][0-9]{3,4}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}\Z")
"""crypt(5), sha512crypt; as `openssl passwd -6` writes it. nginx does the rounds each time."""

Passwords = Mapping[str, dict[str, str]]
"""By domain, or EVERYWHERE: users and the hashes of their passwords."""


class _Options(NamedTuple):
    body_limit: str = "100m"
    """Leaves the limit to Phoenix' own upload limits; nginx' default of 1m surprises everybody."""
    read_timeout: int = 120
    send_timeout: int = 60
    buffering: bool = False
    redirect_www: str = "off"
    https: str = "auto"
    hsts: int = 0
    http3: bool = False
    headers: str = ""
    static: bool = True


class Options(_Options):
    """How the proxy treats one app; see `Proxy` in project/settings.py for the meanings."""

    __slots__ = ()

    def __new__(cls, *values: Any, **named: Any) -> Self:
        """Raise InvalidInput for values that nginx must not receive."""
        self = super().__new__(cls, *values, **named)
        self._check()
        return self

    def _check(self) -> None:
        if not isinstance(self.body_limit, str) or not re.fullmatch(SIZE, self.body_limit):
            raise InvalidInput("body_limit is not a size such as 100m.")
        for name in ("read_timeout", "send_timeout"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MAX_SECONDS:
                raise InvalidInput(f"{name} is not a number of seconds from 1 to {MAX_SECONDS}.")
        if type(self.hsts) is not int or not 0 <= self.hsts <= MAX_HSTS:
            raise InvalidInput(f"hsts is not a number of seconds from 0 to {MAX_HSTS}.")
        if not all(type(one) is bool for one in (self.buffering, self.static, self.http3)):
            raise InvalidInput("buffering, static and http3 are true or false.")
        if self.redirect_www not in WWW or self.https not in HTTPS:
            raise InvalidInput("redirect_www or https is not one of its words.")
        if not isinstance(self.headers, str):
            raise InvalidInput("headers is not a text.")
        headers.parse(self.headers)


class Wishes(NamedTuple):
    """Options and passwords of one app, as the proxy receives them."""

    options: Options = Options()
    passwords: Passwords = MappingProxyType({})

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"options": self.options._asdict(), "passwords": dict(self.passwords)}


def checked(given: dict[str, Any]) -> Wishes:
    """Validate the requested proxy options of an app. Raises InvalidInput."""
    said, passwords = given.get("options", {}), given.get("passwords", {})
    if not isinstance(said, dict) or said.keys() - set(Options._fields):
        raise InvalidInput("These are not options of a proxy.")
    if not isinstance(passwords, dict) or len(passwords) > MAX_USERS:
        raise InvalidInput("These are not passwords of a proxy.")
    for domain, users in passwords.items():
        if domain != EVERYWHERE and names.domain(domain) != domain:
            raise InvalidInput("A domain is not written as it should be.")
        if not isinstance(users, dict) or not 0 < len(users) <= MAX_USERS:
            raise InvalidInput("These are not users of a domain.")
        for name, hashed in users.items():
            user(name)
            if not isinstance(hashed, str) or not _HASH.match(hashed):
                raise InvalidInput("This is not the hash of a password.")
    return Wishes(Options(**said), passwords)


def user(name: str) -> str:
    """A valid name of a user of basic authentication; raises InvalidInput."""
    if not _USER.match(name):
        raise InvalidInput(
            f"{name!r} cannot be a user's name.", hint="Use letters, digits, and inner '_.@+-'."
        )
    return name


def redirects(domains: Sequence[str], mode: str) -> dict[str, str]:
    """Map domains to the ones that they redirect to; only where an app has both of a pair."""
    pairs = [(domain, f"www.{domain}") for domain in domains if f"www.{domain}" in domains]
    if mode == "to-apex":
        return {www: apex for apex, www in pairs}
    return dict(pairs) if mode == "to-www" else {}
