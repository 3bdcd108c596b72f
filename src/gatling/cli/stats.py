"""`gatling stats`, `metrics`."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from typing import IO, TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, opened, reading
from gatling.cli.visitor import is_shown
from gatling.text import counted
from gatling.ui.output import ago, duration, echo, echo_exactly, fields, print_json, size, table

if TYPE_CHECKING:
    from gatling.beam.sight import Counted, Numbers
    from gatling.operations.stats import AppStats, Events, NodeStats, Requests

MAX_LINE, MAX_HEADERS = 8192, 100
"""Of a request for metrics."""
SHOWN_EVENTS = 20


@click.command("stats")
@app_argument
@click.option(
    "--since", metavar="TIME", default="5m", show_default=True,
    help="Count requests from then on: 15m, 2h, 1d, or a time such as 2026-01-31T12:00.",
)  # fmt: skip
@click.option(
    "--instance", metavar="POD",
    help="Only this instance of an app on a cluster, with its processes and ETS tables.",
)  # fmt: skip
@as_json
def stats_command(app: str, since: str, instance: str | None, as_json: bool) -> None:
    """Show the numbers of APP: requests, latencies, memory, processes, run queues, ETS tables.

    Requests are counted by the proxy. The other numbers are those of the live instance now. For an
    app on a cluster they are those of each instance.

    \b
    Examples:
      gatling stats shop
      gatling stats shop --since 2h
      gatling stats shop --instance shop-5d4f8c7b9-x2x4z
      gatling stats shop --json
    """
    from gatling.operations import stats
    from gatling.platform import logs

    begin = datetime.fromisoformat(logs.parse_since(since)).timestamp()
    with reading(app, clusters=True) as gatling:
        found = stats.of_app(gatling, app, begin)
    if instance is not None:
        found = stats.of_instance(found, instance)
    if as_json:
        print_json(found)
        return
    several = found.node is None and bool(found.instances)
    fields([*_instance(found), *_requests(found), *([] if several else _node(found))])
    if several:
        _instances(found)
    if found.node is not None:
        _lists(found.node)
    if found.events is not None:
        _events(found.events)


def _instance(found: AppStats) -> list[tuple[str, object]]:
    limit = f" of {found.memory_limit}" if found.memory_limit else ""
    used = f"{size(found.memory)}{limit} memory" if found.memory is not None else None
    cpu = f", {found.cpu:.0f}% CPU since the start" if found.cpu is not None else ""
    up = f", up {duration(found.uptime)}" if found.uptime is not None else ""
    restarts = [
        (f"restart {n}", f"{ago(each.at)}: {each.cause} after {duration(each.after)}")
        for n, each in enumerate(found.restarts, 1)
    ]
    return [
        *([("instance", found.instance)] if found.instance else []),
        ("state", f"{found.state}{up}"),
        ("release", found.release),
        ("uses", f"{used}{cpu}" if used else None),
        *restarts,
    ]


def _requests(found: AppStats) -> list[tuple[str, object]]:
    seen = found.requests
    if seen is None:
        return [("requests", f"unknown: {found.requests_unknown}")]
    begin, end = (datetime.fromisoformat(moment) for moment in (seen.since, seen.until))
    rate = f", {seen.per_second:.3g} per second" if seen.per_second else ""
    rows: list[tuple[str, object]] = [
        ("since", f"{seen.since} ({duration((end - begin).total_seconds())})"),
        ("requests", f"{seen.requests}{rate}"),
    ]
    if seen.requests:
        rows += [("statuses", _statuses(seen)), ("errors", _errors(seen)), ("latency", _took(seen))]
    if seen.upgraded:
        rows.append(("websockets", f"{seen.upgraded} ended"))
    return rows


def _statuses(seen: Requests) -> str:
    return ", ".join(f"{kind} {number}" for kind, number in seen.statuses.items())


def _errors(seen: Requests) -> str:
    return f"{seen.failed} ({100 * (seen.error_rate or 0):.2f}%)"


def _took(seen: Requests) -> str:
    shares = (("p50", seen.p50_ms), ("p95", seen.p95_ms), ("p99", seen.p99_ms))
    said = ", ".join(f"{name} {took} ms" for name, took in shares)
    return f"{said}, longest {seen.longest_ms} ms"


def _node(found: AppStats) -> list[tuple[str, object]]:
    if found.node is None:
        return [("node", f"unknown: {found.node_unknown}")]
    numbers, limits = found.node.numbers, found.node.numbers.limits
    return [
        ("node", f"OTP {numbers.otp}, {counted(numbers.schedulers, 'scheduler')}"),
        ("memory", _memory(numbers)),
        ("schedulers", _schedulers(numbers)),
        ("processes", _share(limits.process)),
        ("atoms", _share(limits.atom)),
        ("ports", _share(limits.port)),
        ("ETS tables", _share(limits.ets)),
        ("sockets", found.node.sockets),
        *([("logger", counted(numbers.logger_queue, "message") + " waiting")]
          if numbers.logger_queue else []),
    ]  # fmt: skip


def _memory(numbers: Numbers) -> str:
    parts = numbers.memory
    kinds = (("processes", parts.processes), ("binary", parts.binary), ("ets", parts.ets),
             ("code", parts.code), ("atom", parts.atom))  # fmt: skip
    return f"{size(parts.total)}: " + ", ".join(f"{kind} {size(n)}" for kind, n in kinds)


def _schedulers(numbers: Numbers) -> str:
    waiting = f"{counted(numbers.run_queues_all, 'process')} in the run queues"
    if numbers.utilisation < 0:
        return waiting
    return f"{numbers.utilisation / 10:.0f}% used, {waiting}"


def _share(has: Counted) -> str:
    share = f" ({100 * has.count / has.limit:.1f}%)" if has.limit else ""
    return f"{has.count} of {has.limit}{share}"


def _instances(found: AppStats) -> None:
    echo("", "Instances", style="bold")
    header = ("instance", "node", "release", "up", "memory", "CPU", "schedulers", "run queue",
              "processes", "sockets", "state")  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for one in found.instances:
        up = duration(one.uptime) if one.uptime is not None else None
        row = (one.name, one.host, one.release, up)
        if one.node is None:
            rows.append((*row, *[None] * 6, one.node_unknown or one.state))
            continue
        numbers = one.node.numbers
        busy = f"{numbers.utilisation / 10:.0f}%" if numbers.utilisation >= 0 else None
        used = size(one.memory) if one.memory is not None else None
        cpu = f"{100 * (one.cpu_seconds or 0) / one.uptime:.0f}%" if one.uptime else None
        rows.append((
            *row, used, cpu, busy, numbers.run_queues_all, numbers.limits.process.count,
            one.node.sockets, one.state,
        ))  # fmt: skip
    table(header, rows, cut=("state", "instance"))
    first = found.instances[0].name
    echo("", f"`gatling stats {found.app} --instance {first}` shows processes and ETS tables.")


def _lists(node: NodeStats) -> None:
    seen = node.processes_seen
    partly = f", {seen} looked at" if seen < node.numbers.limits.process.count - 5 else ""
    echo("", f"Processes with the most memory{partly}", style="bold")
    header = ("pid", "name", "memory", "queue", "current function")
    rows = [(p.pid, p.name, size(p.memory), p.queue, p.current) for p in node.processes]
    table(header, rows, cut=("current function", "name"), drop=("current function",))
    if node.queues:
        echo("", "Processes with messages in their queues", style="bold")
        rows = [(p.pid, p.name, size(p.memory), p.queue, p.current) for p in node.queues]
        table(header, rows, cut=("current function", "name"), drop=("current function",))
    echo("", "Largest ETS tables", style="bold")
    tables = [(t.name, size(t.memory), t.size) for t in node.tables]
    table(("name", "memory", "objects"), tables, cut=("name",))


def _events(found: Events) -> None:
    for title, kind, what in (
        ("Requests by route", found.routes, "route"), ("LiveView", found.live, "callback"),
        ("Queries", found.queries, "table"), ("Jobs of Oban", found.jobs, "worker"),
    ):  # fmt: skip
        if kind:
            echo("", f"{title}, since {ago(found.since)}", style="bold")
            rows = [(e.name, e.count, e.failed, f"{e.mean_ms:g} ms", f"{e.p95_ms:g} ms",
                     f"{e.queue_ms:g} ms") for e in kind[:SHOWN_EVENTS]]  # fmt: skip
            table((what, "count", "failed", "mean", "p95", "waited"), rows, cut=(what,))


@click.command("metrics")
@click.option(
    "--http", is_flag=True,
    help="Answer one HTTP request on standard input, for a systemd socket with Accept=yes.",
)  # fmt: skip
def metrics_command(http: bool) -> None:
    """Print the numbers of all apps in the text format of Prometheus.

    \b
    Examples:
      gatling metrics
      gatling metrics --http
    """
    from gatling.operations import metrics
    from gatling.state import apps

    asked = _asked(sys.stdin.buffer) if http else ""
    if http and asked != "/metrics":
        _answer("404 Not Found" if asked else "400 Bad Request", "")
        return
    with opened() as gatling:
        shown = [app for app in apps.every(gatling.db, clusters=True) if is_shown(app.name)]
        text = metrics.of_apps(gatling, shown)
    if http:
        _answer("200 OK", text)
    else:
        echo_exactly(text.removesuffix("\n"))


def _asked(stream: IO[bytes]) -> str:
    """The path of an HTTP request, without its query; empty for what is none."""
    first = stream.readline(MAX_LINE)
    for _ in range(MAX_HEADERS):
        if stream.readline(MAX_LINE).strip() == b"":
            break
    else:
        return ""
    found = re.fullmatch(rb"(?:GET|HEAD) (/[!-~]*) HTTP/1\.[01]\r?\n", first)
    return found[1].decode().partition("?")[0] if found else ""


def _answer(status: str, text: str) -> None:
    from gatling.operations.metrics import CONTENT_TYPE

    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    sys.stdout.buffer.write(head.encode() + body)
    sys.stdout.buffer.flush()
