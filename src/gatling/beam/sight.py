"""The numbers of a running node, as gatling_numbers measures them there.

They are an app's word like all that comes from a node: typed, limited, and shown as text.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gatling.beam import channel, control, toolbox
from gatling.beam.answers import Count, typed
from gatling.beam.etf import Atom

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.paths import AppPaths
    from gatling.platform.base import Address
    from gatling.state.apps import App
    from gatling.state.releases import Release

SECONDS = 3.0
RECONNECT_SECONDS = 10.0
"""For a node that is busy with the sockets that leave it."""
"""How long a node may take to answer; it measures for less than one."""
CONNECT_SECONDS = 1.0
PATIENCE_SECONDS = 0.5
"""How long another command that talks to the node is waited for."""
MEASURED_MS = 200
"""How long the utilisation of schedulers is measured."""
MOST_ROWS = 50
MOST_EVENTS = 256
"""Slots of the array in gatling_telemetry."""
RANGES = 12
MOST_CHARACTERS = 1000
_MARK = Atom("gatling_sight")

Name = Annotated[str, Meta(max_length=1000)]
Thousandths = Annotated[int, Meta(ge=-1, le=1000)]
Key = Literal["memory", "reductions", "message_queue_len"]


class Memory(Struct, frozen=True):
    """Bytes that the emulator has allocated: erlang:memory/0."""

    total: Count
    processes: Count
    processes_used: Count
    system: Count
    atom: Count
    atom_used: Count
    binary: Count
    code: Count
    ets: Count


class Counted(Struct, frozen=True, array_like=True):
    """A number of things of which a node can have only so many."""

    count: Count
    limit: Count


class Counts(Struct, frozen=True):
    """The things whose number is limited."""

    process: Counted
    port: Counted
    atom: Counted
    ets: Counted


class Numbers(Struct, frozen=True):
    """The numbers of a node."""

    otp: Annotated[str, Meta(max_length=20)]
    uptime_ms: Count
    memory: Memory
    wordsize: Annotated[int, Meta(ge=4, le=16)]
    limits: Counts
    run_queues: Count
    """Processes that are ready to run."""
    run_queues_all: Count
    """The same, with those that wait for a dirty scheduler."""
    schedulers: Count
    utilisation: Thousandths
    """The share of time in which the processor was used, in thousandths; -1: not measured."""
    io_utilisation: Thousandths
    """The same of dirty IO schedulers."""
    reductions: Count
    context_switches: Count
    runtime_ms: Count
    gcs: Count
    reclaimed_words: Count
    bytes_in: Count
    bytes_out: Count
    logger_queue: Count
    """Messages that wait for the logger."""
    dets: Count = 0
    """Open DETS tables."""


class Process(Struct, frozen=True):
    """A process of a node."""

    pid: Annotated[str, Meta(max_length=100)]
    name: Name
    """Its label or name, or the function that it was started with."""
    memory: Count
    reductions: Count
    queue: Count
    """Messages in its queue."""
    current: Name
    """The function that it runs."""


class Table(Struct, frozen=True):
    """An ETS table of a node."""

    name: Name
    memory: Count
    size: Count
    """Its objects."""


class Reported(Struct, frozen=True):
    """Events of one name that the app's libraries reported over :telemetry."""

    kind: Literal["route", "live", "query", "job"]
    name: Annotated[list[Annotated[str, Meta(max_length=MOST_CHARACTERS)]], Meta(max_length=4)]
    """Method and route, view and callback, repository and table, or worker and queue."""
    count: Count
    failed: Count
    us: Count
    """Their durations together, in microseconds."""
    queue_us: Count
    """How long all of them together waited for a connection or their turn."""
    ranges: Annotated[list[Count], Meta(min_length=RANGES, max_length=RANGES)]
    """How many took up to each of proxy.figures.BOUNDS, and longer than the bound before it;
    those that took longer come last."""


class Telemetry(Struct, frozen=True):
    """The events that an app's libraries reported since a Unix time."""

    since: Count
    events: list[Reported]


class Sight:
    """A connection to the running node of an app. All methods raise NodeUnreachable."""

    def __init__(self, node: channel.Node) -> None:
        self._node = node

    def numbers(self, measured_ms: int = MEASURED_MS) -> Numbers:
        """All numbers. The utilisation takes `measured_ms`; with 0 it is not measured."""
        found: Numbers = self._ask("all", Numbers, measured_ms)
        return found

    def processes(self, key: Key = "memory", most: int = 10) -> tuple[list[Process], int]:
        """The processes with the most of something, and how many were looked at."""
        rows: list[Process]
        rows, seen = self._ask("processes", tuple[list[Process], Count], Atom(key), most)
        return rows[:MOST_ROWS], seen

    def tables(self, most: int = 10) -> tuple[list[Table], int]:
        """The largest ETS tables, and how many were looked at."""
        rows: list[Table]
        rows, seen = self._ask("tables", tuple[list[Table], Count], most)
        return rows[:MOST_ROWS], seen

    def resident(self) -> int | None:
        """The bytes that the node's OS process has in memory; None where Linux does not say."""
        answer = self._node.call("file", "read_file", b"/proc/self/status", timeout=SECONDS)
        found = typed(answer, tuple[Literal["ok", "error"], str], "status")
        match = re.search(r"^VmRSS:\s+([0-9]{1,12}) kB$", found[1], re.MULTILINE)
        return 1024 * int(match[1]) if match else None

    def sockets(self) -> int:
        """How many sockets are open."""
        found: int = self._ask("sockets", Count)
        return found

    def reconnect(self, most: int) -> tuple[int, int] | None:
        """Ask so many sockets of Phoenix to reconnect; how many were open, and how many were asked.

        None if the app has no Phoenix, or one that does not know how.
        """
        answer = self._node.call("gatling_drain", "ask", most, timeout=RECONNECT_SECONDS)
        found = typed(answer, tuple[Count, Count] | Literal["unknown"], "ask")
        return None if found == "unknown" else (found[0], found[1])

    def attach(self) -> bool:
        """Count what the app's libraries report, from now on if nobody did; whether they do."""
        answer = self._node.call("gatling_telemetry", "attach", timeout=SECONDS)
        return bool(typed(answer, Literal["attached", "absent"], "attach") == "attached")

    def detach(self) -> None:
        """Count them no more, and forget all counts."""
        self._node.call("gatling_telemetry", "detach", timeout=SECONDS)

    def telemetry(self) -> Telemetry | None:
        """The counts; None without any handler."""
        answer = self._node.call(
            "gatling_telemetry", "read", timeout=SECONDS, limit=control.MODERATE
        )
        found = typed(answer, tuple[Count, list[Reported]] | Literal["none"], "read")
        return None if found == "none" else Telemetry(found[0], found[1][:MOST_EVENTS])

    def _ask(self, function: str, wanted: Any, *arguments: Any) -> Any:
        answer = self._node.call("gatling_numbers", function, *arguments, timeout=SECONDS)
        return typed(answer, wanted, function)


@contextlib.contextmanager
def connected(paths: AppPaths, app: App, booted: Release, address: Address) -> Iterator[Sight]:
    """A connection to the app's running node, with the modules that measure.

    `booted` is the release that the node was started as. Raises NodeUnreachable.
    """
    with control.connection(paths, app, booted, address, PATIENCE_SECONDS, CONNECT_SECONDS) as node:
        yield measuring(node, paths, booted)


def measuring(node: channel.Node, paths: AppPaths, booted: Release) -> Sight:
    """Bring the modules that measure into a node, unless it has this version of them."""
    digest = toolbox.digest()
    if not control.has_version(node, _MARK, digest, SECONDS):
        beams = toolbox.beams(paths, booted)
        control.load(node, toolbox.SIGHT, beams, paths.cache_anchor, SECONDS)
        node.call("persistent_term", "put", _MARK, digest, timeout=SECONDS)
    return Sight(node)


def plain(numbers: Numbers) -> dict[str, Any]:
    """The numbers for JSON."""
    found: dict[str, Any] = msgspec.to_builtins(numbers)
    return found
