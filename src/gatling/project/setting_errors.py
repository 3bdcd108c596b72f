"""Errors of `settings set KEY=VALUE`: the key, the accepted values, the nearest known key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gatling.errors import InvalidInput
from gatling.project import expectations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LIST = "`gatling settings list APP` lists all settings. docs/settings.md explains them."


def explained(
    values: Mapping[str, str],
    known: Mapping[str, Any],
    sections: tuple[str, ...],
    reason: Callable[[str, str], str],
    choices: Callable[[str], Sequence[str]],
) -> InvalidInput:
    """The error of the first key that has one.

    `known` has all keys with their defaults, with NAME in those of `sections`. `reason` gives the
    validation error of one key and value alone, or nothing. `choices` gives the words that a key
    accepts.
    """
    for key, text in values.items():
        section, _, rest = key.partition(".")
        name, _, field = rest.rpartition(".")
        pattern = f"{section}.NAME.{field}" if section in sections and name else key
        if pattern not in known:
            if section in sections and rest and not name:
                pattern = f"{section}.NAME.command"  # `processes.worker`: a name without a key
            near = expectations.nearest(pattern, list(known), 0.6)
            meant = near.replace("NAME", name or rest or "NAME")
            return InvalidInput(
                f"There is no setting {key!r}.", hint=f"Did you mean {meant}?" if meant else _LIST
            )
        said = reason(key, text)
        if not said:
            continue
        if section in sections and f"`key` in `{section}`" in said:
            return InvalidInput(f"{name!r} cannot be a name in {section}: {expectations.NAME}.")
        if own := re.match(r"[a-z_]+: (.*?)(?: - at `.*)?$", said, re.DOTALL):
            return InvalidInput(f"{key}: {own[1]}.", hint=_LIST)  # the model's own checks
        what = expectations.wanted(said.partition(" - at ")[0], choices(pattern))
        what = what.partition(", got ")[0]
        return InvalidInput(f"{key}: {what}, got {expectations.shown(text)}.", hint=_LIST)
    return InvalidInput("These settings contradict each other.", hint=_LIST)
