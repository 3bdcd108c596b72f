"""What is wrong with `settings set KEY=VALUE`: the key, what it takes, the nearest known key."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SHOWN = 60
"""Characters of a value that are shown."""
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
_NAME = "up to 31 of a-z, 0-9, _ and -, beginning with a letter, and is not web"


def explained(
    values: Mapping[str, str],
    known: Mapping[str, Any],
    sections: tuple[str, ...],
    reason: Callable[[str, str], str],
    choices: Callable[[str], Sequence[str]],
) -> InvalidInput:
    """The error of the first key that has one.

    `known` are all keys with their defaults, NAME in those of `sections`; `reason` tells what is
    wrong with one key and value alone, or nothing; `choices` the words that a key may be.
    """
    for key, text in values.items():
        section, _, rest = key.partition(".")
        name, _, field = rest.rpartition(".")
        pattern = f"{section}.NAME.{field}" if section in sections and name else key
        if pattern not in known:
            meant = _nearest(key, pattern, known, name)
            return InvalidInput(
                f"There is no setting {key!r}.", hint=f"Did you mean {meant}?" if meant else _LIST
            )
        said = reason(key, text)
        if not said:
            continue
        if section in sections and f"`key` in `{section}`" in said:
            return InvalidInput(f"{name!r} cannot be a name in {section}: a name has {_NAME}.")
        if own := re.match(r"[a-z_]+: (.*?)(?: - at `.*)?$", said, re.DOTALL):
            return InvalidInput(f"{key}: {own[1]}.", hint=_LIST)  # of the model's own checks
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        return InvalidInput(
            f"{key} takes {_takes(said, choices(pattern))}; {shown!r} is not.", hint=_LIST
        )
    return InvalidInput("These settings contradict each other.", hint=_LIST)


_LIST = "`gatling settings list APP` lists all settings. docs/settings.md explains them."


def _nearest(key: str, pattern: str, known: Mapping[str, Any], name: str) -> str:
    near = difflib.get_close_matches(pattern[:100], known, n=1, cutoff=0.6)
    near = near or [one for one in known if one.rpartition(".")[2] == key]  # `timeout`, say
    return near[0].replace("NAME", name or "NAME") if near else ""


def _takes(said: str, choice: Sequence[str]) -> str:
    """What msgspec expects, in words: `Expected `float` >= 0.01 - at …`."""
    if choice:
        return f"one of {', '.join(choice)}"
    what = said.partition(" - at ")[0].removeprefix("Expected ").partition(", got ")[0]
    kind = re.match(r"`(int|float|bool|str)`", what)
    if kind is None:
        return what
    bounds = what[kind.end() :]
    if length := re.fullmatch(r" of length <= (\d+)", bounds):
        return f"{_KINDS[kind[1]]} of at most {length[1]} characters"
    return _KINDS[kind[1]] + bounds.replace(">=", "of at least").replace("<=", "of at most")
