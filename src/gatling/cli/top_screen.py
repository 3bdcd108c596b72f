"""The picture that `gatling top` draws: lines of text from two samples. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from gatling import visible
from gatling.operations import stats
from gatling.text import counted
from gatling.ui import tables
from gatling.ui.output import duration, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.beam.sight import Process
    from gatling.operations.stats import AppStats, Event, NodeStats

View = Literal["processes", "tables", "events"]
Sort = Literal["memory", "reductions", "messages"]
Style = Literal["", "bold", "dim", "warning"]
VIEWS: tuple[View, ...] = ("processes", "tables", "events")
NEARLY = 0.8
"""The share of a limit from which on a number is a warning."""
KEYS = "tab view   m memory  r reductions  n messages   space pause   q quit"
INSTANCE_KEY = "i next instance   "


class Line(NamedTuple):
    """A line of the screen."""

    text: str
    style: Style = ""


class Shown(NamedTuple):
    """A sample with the one before it, and how they are to be shown."""

    now: AppStats
    before: AppStats | None
    seconds: float
    """Time between the two."""
    view: View = "processes"
    sort: Sort = "memory"
    paused: bool = False


def chosen(now: AppStats, before: AppStats | None, number: int) -> tuple[AppStats, AppStats | None]:
    """Both samples of one instance of an app on a cluster; as they are without instances.

    `number` counts the instances as they are now, again and again.
    """
    if not now.instances:
        return now, before
    name = now.instances[number % len(now.instances)].name
    earlier = None
    if before is not None and any(one.name == name for one in before.instances):
        earlier = stats.of_instance(before, name)
    return stats.of_instance(now, name), earlier


def lines(shown: Shown, width: int, height: int) -> list[Line]:
    """The screen, at most `height` lines of at most `width` columns."""
    found = [*_head(shown), Line(""), *_body(shown, width)]
    room = max(1, height - 1)
    keys = f"{INSTANCE_KEY if len(shown.now.instances) > 1 else ''}{KEYS}"
    foot = Line(f"{'paused   ' if shown.paused else ''}{keys}", "dim")
    cut = [Line(tables.shortened(visible.one_line(text), width), style) for text, style in found]
    return [*cut[:room], Line(tables.shortened(foot.text, width), foot.style)][:height]


def _head(shown: Shown) -> list[Line]:
    now = shown.now
    up = f", up {duration(now.uptime)}" if now.uptime is not None else ""
    ends = f"   {counted(len(now.restarts), 'restart')} in the last hour" if now.restarts else ""
    found = [
        Line(f"{now.app} {now.release or ''}   {now.state}{up}{ends}",
             "bold" if now.state == "running" and not now.restarts else "warning"),
        *_which(now),
        Line(_uses(shown)),
        _requests(now),
    ]  # fmt: skip
    if now.node is None:
        return [*found, Line(f"node       {now.node_unknown}", "warning")]
    return [*found, *_limits(now.node)]


def _which(now: AppStats) -> list[Line]:
    """The line that names the instance."""
    for number, one in enumerate(now.instances, 1):
        if one.name == now.instance:
            return [Line(f"pod        {one.name} on {one.host or 'no node'}"
                         f" ({number} of {len(now.instances)})")]  # fmt: skip
    return []


def _uses(shown: Shown) -> str:
    now, before = shown.now, shown.before
    used = size(now.memory) if now.memory is not None else "unknown"
    limit = f" of {now.memory_limit}" if now.memory_limit else ""
    text = f"instance   {used}{limit}"
    if now.cpu_seconds is None or before is None or before.cpu_seconds is None:
        return text
    spent = now.cpu_seconds - before.cpu_seconds
    if spent < 0 or shown.seconds <= 0:  # it was started again
        return text
    return f"{text}   CPU {100 * spent / shown.seconds:.0f}%"


def _requests(now: AppStats) -> Line:
    seen = now.requests
    if seen is None:
        return Line(f"requests   {now.requests_unknown}", "dim")
    if not seen.requests:
        return Line("requests   none in the last minute")
    text = (
        f"requests   {seen.per_second or 0:.3g} per second   p50 {seen.p50_ms} ms   p95"
        f" {seen.p95_ms} ms   {seen.failed} failed (last minute)"
    )
    return Line(text, "warning" if seen.failed else "")


def _limits(node: NodeStats) -> list[Line]:
    numbers = node.numbers
    memory, counts = numbers.memory, numbers.limits
    busy = f"{numbers.utilisation / 10:.0f}%" if numbers.utilisation >= 0 else "unknown"
    shares = (counts.process, counts.port, counts.atom, counts.ets)
    near = any(each.limit and each.count > NEARLY * each.limit for each in shares)
    return [
        Line(f"schedulers {busy} of {numbers.schedulers}   run queues {numbers.run_queues_all}"),
        Line(f"memory     {size(memory.total)}: processes {size(memory.processes)}, binary"
             f" {size(memory.binary)}, ets {size(memory.ets)}, code {size(memory.code)}"),
        Line(f"counts     {counted(counts.process.count, 'process')}, {counts.atom.count} atoms,"
             f" {counted(node.sockets, 'socket')}, {counted(counts.ets.count, 'ETS table')}",
             "warning" if near else ""),
    ]  # fmt: skip


def _body(shown: Shown, width: int) -> list[Line]:
    now = shown.now
    match shown.view:
        case "processes":
            return _processes(shown, width)
        case "tables":
            rows = (
                [(t.name, size(t.memory), str(t.size)) for t in now.node.tables] if now.node else []
            )
            return _table(("ETS table", "memory", "objects"), rows, width, ("ETS table",))
        case "events":
            return _events(now, width)


def _processes(shown: Shown, width: int) -> list[Line]:
    node = shown.now.node
    if node is None:
        return []
    earlier = shown.before.node if shown.before else None
    known = {each.pid: each.reductions for each in _every(earlier)} if earlier else {}
    rates = {
        each.pid: max(0, each.reductions - known[each.pid]) / shown.seconds
        for each in _every(node)
        if each.pid in known and shown.seconds > 0
    }
    ordered = sorted(_every(node), key=lambda each: _key(each, rates, shown.sort), reverse=True)
    header = ("pid", "name", "memory", "reductions/s", "messages", "current function")
    rows = [
        (each.pid, each.name, size(each.memory),
         f"{rates[each.pid]:.0f}" if each.pid in rates else tables.EMPTY,
         str(each.queue), each.current)
        for each in ordered
    ]  # fmt: skip
    title = f"processes by {shown.sort}"
    seen, there = node.processes_seen, node.numbers.limits.process.count
    partly = f" ({seen} of {there} looked at)" if seen < NEARLY * there else ""
    return [Line(title + partly, "bold"),
            *_table(header, rows, width, ("current function", "name"))]  # fmt: skip


def _every(node: NodeStats) -> list[Process]:
    return list({each.pid: each for each in (*node.processes, *node.queues, *node.busy)}.values())


def _key(each: Process, rates: dict[str, float], sort: Sort) -> float:
    match sort:
        case "memory":
            return each.memory
        case "reductions":
            return rates.get(each.pid, 0)
        case "messages":
            return each.queue


def _events(now: AppStats, width: int) -> list[Line]:
    if now.events is None:
        return [
            Line("This app reports nothing over :telemetry, or stats.telemetry is false.", "dim")
        ]
    kinds: tuple[tuple[str, list[Event]], ...] = (
        ("route", now.events.routes), ("live", now.events.live),
        ("query", now.events.queries), ("job", now.events.jobs),
    )  # fmt: skip
    rows = [
        (kind, e.name, str(e.count), str(e.failed), f"{e.mean_ms:g} ms", f"{e.p95_ms:g} ms")
        for kind, events in kinds
        for e in events
    ]
    header = ("kind", "name", "count", "failed", "mean", "p95")
    return _table(header, rows, width, ("name",))


def _table(
    header: tuple[str, ...], rows: Sequence[tuple[str, ...]], width: int, cut: tuple[str, ...]
) -> list[Line]:
    clean = tuple(tuple(visible.one_line(cell) for cell in row) for row in rows)
    columns = tables.fitted(tables.Columns(header, clean), width, cut)
    first, *rest = tables.lines(columns)
    return [Line(first, "dim"), *(Line(each) for each in rest)]
