"""Headers that the proxy adds to answers, as one text: `Name: value | Name: value`.

The same code reads them for the settings and for root's helper: what it lets pass can neither end
a string of nginx' configuration, nor name one of its variables, nor begin a new line of an answer.
"""

from __future__ import annotations

import re

from gatling.errors import InvalidInput

SEPARATOR = "|"
"""Values hold commas and semicolons (Permissions-Policy, Content-Security-Policy), but not this."""
MAX_HEADERS = 32
MAX_LENGTH = 4096

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}\Z")
_VALUE = re.compile(r"[ !\"#%&'()*+,\-./0-9:;<=>?@A-Z\[\]^_`a-z{}~]+\Z")
"""Printable ASCII but `$` (nginx' variables; nothing escapes it there), `\\` and the separator."""

_NOT_OURS = frozenset(
    {
        "accept-ranges", "age", "allow", "cache-control", "connection", "content-disposition",
        "content-encoding", "content-language", "content-length", "content-location",
        "content-range", "content-type", "date", "etag", "expires", "keep-alive", "last-modified",
        "location", "proxy-authenticate", "proxy-connection", "retry-after", "server",
        "set-cookie", "status", "te", "trailer", "transfer-encoding", "upgrade", "vary",
        "www-authenticate",
    }
)  # fmt: skip
"""Headers that belong to a single answer, or to the protocol."""


def parse(text: str) -> tuple[tuple[str, str], ...]:
    """Names and values; raises InvalidInput with the reason."""
    if len(text) > MAX_LENGTH:
        raise InvalidInput(f"Headers have more than {MAX_LENGTH} characters.")
    found: list[tuple[str, str]] = []
    for part in text.split(SEPARATOR) if text.strip(" ") else ():
        name, colon, value = part.strip(" ").partition(":")
        value = value.strip(" ")
        if not colon or not _NAME.match(name):
            raise InvalidInput(
                f"{part.strip()!r} is not a header.",
                hint=f"Write 'Name: value', and '{SEPARATOR}' between two.",
            )
        if not _VALUE.match(value):
            raise InvalidInput(
                f"The value of {name} is empty, or has a character that is not printable ASCII,"
                " '$' or '\\'."
            )
        if name.lower() in _NOT_OURS or name.lower().startswith("x-accel-"):
            raise InvalidInput(
                f"{name} is set by the app or by HTTP itself and cannot be set here."
            )
        if name.lower() in {known.lower() for known, _ in found}:
            raise InvalidInput(f"{name} is given twice.")
        found.append((name, value))
    if len(found) > MAX_HEADERS:
        raise InvalidInput(f"There are more than {MAX_HEADERS} headers.")
    return tuple(found)
