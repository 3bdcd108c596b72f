"""The words of all errors about settings, in gatling.toml and of `gatling settings`.

msgspec validates both; its messages name Python's types and patterns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SHOWN = 60
"""Characters of a key or a value that an error shows."""
NAME = "a name has up to 31 of a-z, 0-9, _ and -, begins with a letter, and is not web"

_KINDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "object": "a table",
    "array": "an array",
    "date": "a date",
    "time": "a time",
    "datetime": "a date",
}
_GOT = _KINDS | {"bool": "a boolean"}


def wanted(said: str, choice: Sequence[str] = ()) -> str:
    """A message of msgspec in words: `expected a number of at least 0.01, got a string`.

    `said` is the message without its path and without patterns. `choice` is the list of words that
    the key accepts, if it accepts only certain words.
    """
    if choice:
        return f"expected one of {', '.join(choice)}"
    found = re.fullmatch(r"Expected `(\w+)`(.*?)(?:, got `(\w+)`)?", said, re.DOTALL)
    if found is None or found[1] not in _KINDS:
        what = re.sub(r"`(\w+)`", lambda kind: _GOT.get(kind[1], kind[0]), said)
        return re.sub("^(Expected|Invalid)", lambda word: word[0].lower(), what)
    got = f", got {_GOT.get(found[3], found[3])}" if found[3] else ""
    return f"expected {_KINDS[found[1]]}{_bounds(found[2])}{got}"


def _bounds(text: str) -> str:
    """Bounds in words: ` >= 0.01`, ` <= 86400.0`, ` of length <= 1024`."""
    if length := re.fullmatch(r" of length <= (\d+)", text):
        return f" of at most {length[1]} characters"
    text = re.sub(r"\.0\b", "", text)
    return text.replace(">=", "of at least").replace("<=", "of at most")


def nearest(key: str, candidates: Sequence[str], cutoff: float) -> str:
    """The known key that was most likely meant, or nothing.

    A key without its section, such as `timeout`, means the first key of that name.
    """
    import difflib  # takes a while to load, and few keys are misspelt

    key = key[: 3 * SHOWN]
    near = difflib.get_close_matches(key, candidates, n=1, cutoff=cutoff)
    near = near or difflib.get_close_matches(key.lower(), candidates, n=1, cutoff=cutoff)
    near = near or _with_last_part(key, candidates)
    return near[0] if near else ""


def _with_last_part(key: str, candidates: Iterable[str]) -> list[str]:
    if not re.fullmatch(r"[\w.-]+", key):
        return []
    last = key.rpartition(".")[2].lower()
    return [one for one in candidates if one.rpartition(".")[2] == last]


def shown(value: str) -> str:
    """A value as an error shows it: quoted, and not too long."""
    return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}…")
