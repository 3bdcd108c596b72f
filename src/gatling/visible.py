"""Text from elsewhere, made safe to show.

Text of an app, a build, a pushed file or a visitor's request may end on an operator's terminal.
Control characters in it could rename the window, move the cursor, hide lines or forge them, so
everything that Gatling prints passes here first. Colours are removed, all other control characters
are spelled out (`\\x1b`), and tabs stay.
"""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
"""SGR, ECMA-48: without it a line says the same."""

# C0 but the tab, C1 (8-bit CSI, OSC), DEL; characters that turn the direction of writing or end a
# line; surrogates, which is how Python keeps bytes that are not UTF-8
_HIDDEN = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff"
    "\ud800-\udfff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r"}


def one_line(text: str) -> str:
    """The text as a single line of printable characters and tabs."""
    if text.isprintable():
        return text
    return _HIDDEN.sub(_spelled_out, _COLOUR.sub("", text))


def lines(text: str) -> str:
    """The text with its line ends, and otherwise as `one_line`."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def in_json(document: str) -> str:
    """A JSON document in which the same characters are escaped, as JSON escapes them."""
    # json.dumps escapes C0 in strings by itself; line ends between values are its own
    return _HIDDEN.sub(
        lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", document
    )


def _spelled_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: the byte itself
        code -= 0xDC00
    return _SHORT.get(found[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
