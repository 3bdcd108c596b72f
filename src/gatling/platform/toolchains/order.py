"""The order for a toolchain: its version and its source, as the program that gets it reads them."""

import json
import re
from typing import NamedTuple

from gatling.errors import InvalidInput
from gatling.project import toolchains

MARK = "\0"
"""Begins the line of that program's output that is for programs."""
DEFAULT = "https://builds.hex.pm"
MIRROR, AUTOMATIC = "toolchains.mirror", "toolchains.automatic"
"""The settings of a home: the mirror's URL, and `on` where a push may install what it needs."""
URL = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]{1,255}(/[A-Za-z0-9._~/-]{0,255})?")


class Order(NamedTuple):
    """The toolchain to get, and its source."""

    wanted: str
    """As people write it; empty for any, with `paths` only."""
    mirror: str = DEFAULT
    paths: tuple[str, ...] = ()
    """Directories and archives of this host, in the place of the mirror."""
    sha256: str = ""
    """The checksum of the one archive among them."""
    present: tuple[str, ...] = ()
    """The names of toolchains that are installed and need not be got."""

    def json(self) -> str:
        """The order as the program reads it."""
        return json.dumps(self._asdict())


def order(text: str) -> Order:
    """Read an order; raises InvalidInput for any other text."""
    try:
        given = json.loads(text)
        found = Order(**given | {key: tuple(given[key]) for key in ("paths", "present")})
    except (ValueError, TypeError, KeyError):
        raise InvalidInput("That is no order.") from None
    words = (found.wanted, found.mirror, found.sha256, *found.paths, *found.present)
    if not all(isinstance(word, str) and "\0" not in word for word in words):
        raise InvalidInput("That is no order.")
    if not URL.fullmatch(found.mirror):
        raise InvalidInput(f"{found.mirror[:200]!r} is not the URL of a mirror.")
    if not all(path.startswith("/") for path in found.paths):
        raise InvalidInput("A path must be absolute.")
    if found.wanted or not found.paths:
        toolchains.parse(found.wanted)
    return found


def is_open(mirror: str) -> bool:
    """Whether others on the way can change what comes from a mirror: HTTP, but from this host."""
    host = re.sub(r":[0-9]*\Z", "", mirror.removeprefix("http://").partition("/")[0])
    own = host in ("localhost", "[::1]") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host)
    return mirror.startswith("http://") and not own
