"""Words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CALLBACKS = ("before_", "after_")
"""How the names of steps begin that a project's callbacks are."""
LISTED = 3
"""Names in a sentence; of more than these and one, the others are counted."""


def counted(number: int, one: str) -> str:
    """`1 request`, `2 requests`, `1 process`, `0 processes`."""
    return f"{number} {one}" if number == 1 else f"{number} {one}{'es' if one[-1] == 's' else 's'}"


def step(name: str) -> str:
    """The name of a deployment's step, for people: `mix deps.get`, `health check`.

    A callback keeps the name under which the project defines it.
    """
    if name.startswith(CALLBACKS):
        return name
    return _STEPS.get(name, name.replace("_", " "))


_STEPS = {
    "export_source": "export",
    "mix_deps_get": "mix deps.get",
    "mix_release_init": "mix release.init",
    "store_release": "store",
}


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c and 4 others`."""
    shown = list(names)
    if len(shown) > LISTED + 1:
        shown = [*shown[:LISTED], f"{len(shown) - LISTED} others"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))
