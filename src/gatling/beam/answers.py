"""The answers of a node, as types.

The node's word is an app's, so all of it is decoded here; what does not fit is NodeUnreachable.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gatling import decoding
from gatling.beam.comparison import Comparison  # noqa: TC001 (msgspec reads the annotation)
from gatling.beam.etf import Opaque
from gatling.errors import NodeUnreachable

Label = Annotated[str, Meta(pattern=r"\Av[1-9][0-9]{0,8}\Z")]
"""The label of a release, `v7`. Only the records show whether there is such a release."""
Count = Annotated[int, Meta(ge=0, lt=1 << 53)]


class Announced(Struct):
    """A swap that is under way in the node, or was cut off there."""

    from_label: str = msgspec.field(name="from")
    to: str
    phase: Literal["checking", "touching", "committed", "broken", "unknown"]


class Busy(Struct, array_like=True, tag="busy"):
    """The answer while a swap is under way."""

    swap: Announced


class Chain(Struct, array_like=True, tag="ok"):
    """The releases that a node went through, with the Unix time of each swap in ms."""

    releases: list[tuple[Label, int | Literal["undefined"]]]


class Inspected(Struct, array_like=True, tag="ok"):
    """How two releases differ."""

    comparison: Comparison


class Report(Struct):
    """The node's report of a swap."""

    processes: Count
    migrated: list[tuple[str, Count]]
    suspended_us: Count
    held_us: Count
    total_us: Count
    failed: list[tuple[str, str]]
    watcher: Opaque


class Pages(Struct, frozen=True):
    """The open LiveViews, and what became of each in a new rendering."""

    open: Count
    rendered: Count
    failed: Count
    """The new code raised, and they are as they were."""
    why: str
    """Of the first that failed, in the node's words."""
    left: Count
    """Not of a known form, or with temporary assigns."""
    busy: Count
    """Did not answer in time, and render later."""
    unreached: Count
    """Their turn comes after the answer."""


class Done(Struct, array_like=True, tag="ok"):
    """The answer of a swap that took place."""

    report: Report


class Failed(Struct, array_like=True, tag="error"):
    """The answer of a swap that did not take place."""

    stage: str
    what: Any
    state: Literal["untouched", "restored", "broken"]


class At(Struct, array_like=True, tag="at"):
    """The point at which a swap of several nodes stands in this one."""

    swap: Opaque
    point: Literal["prepared", "suspended", "switched"]


class Ended(Struct, array_like=True, tag="ended"):
    """The end of a swap of several nodes in this one."""

    result: Done | Failed | Busy


class Lost(Struct, array_like=True, tag="lost"):
    """The process of such a swap was killed in the node."""

    why: str


Crash = tuple[str, list[str], str]
"""A converted process, its callback modules, and why it ended."""


def typed(term: Any, wanted: Any, call: str) -> Any:
    """A decoded term as the type that the call answers with; raises NodeUnreachable."""
    try:
        return decoding.convert(plain(term), wanted)
    except msgspec.ValidationError:
        raise NodeUnreachable(f"The node's answer to {call} is not valid.") from None


def plain(term: Any) -> Any:
    """A term as plain data: atoms and binaries as text, tuples as lists."""
    match term:
        case bytes():
            return term.decode("utf-8", "replace")
        case bool() | int() | float() | Opaque():
            return term
        case str():
            return str(term)
        case tuple() | list():
            return [plain(element) for element in term]
        case dict():
            return {plain(key): plain(value) for key, value in term.items()}
    return None


def said(what: Any) -> str:
    """Return a failed swap's description of its failure, for people."""
    match what:
        case str():
            return elixir(what)
        case list() if what and all(isinstance(n, int) and 31 < n < 0xD800 for n in what):
            return "".join(map(chr, what))
        case list():
            return ", ".join(said(element) for element in what)
    return str(what)


def elixir(module: str) -> str:
    """A module's name as people write it."""
    return module.removeprefix("Elixir.")
