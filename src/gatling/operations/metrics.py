"""The numbers of all apps as Prometheus reads them: its text format, version 0.0.4.

The metrics of a node have the names of the library prometheus.erl (its version 4 and its version 6,
where those differ), and those of its OS process the names of prometheus_process_collector, so that
existing boards for the BEAM show them. Those of requests and instances are Gatling's own.
"""

from __future__ import annotations

import contextlib
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from msgspec import structs

from gatling.errors import GatlingError
from gatling.platform import usage
from gatling.proxy import figures, request_totals
from gatling.times import seconds_since

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from gatling.beam.sight import Numbers, Reported, Sight
    from gatling.operations.status import AppStatus
    from gatling.platform.open import Gatling
    from gatling.proxy.request_totals import Totals
    from gatling.state.apps import App

    _Node = tuple[Numbers, Sequence[Reported]]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Result = TypeVar("Result")

AT_ONCE = 16
"""Nodes that are measured at the same time."""

Labels = tuple[tuple[str, str], ...]


class Point(NamedTuple):
    """A value of a metric."""

    suffix: str
    """The end of the name, such as `_bucket` in a histogram."""
    labels: Labels
    value: float


class Metric(NamedTuple):
    """A metric with all its values."""

    name: str
    kind: str
    help: str
    points: list[Point]


class Sample(NamedTuple):
    """The state of an app at a moment."""

    status: AppStatus
    node: Numbers | None
    events: Sequence[Reported] = ()
    pod: str = ""
    """The instance that it is of, for an app on a cluster."""
    program: usage.Program | None = None
    """Its OS process, if that runs on this machine."""

    @property
    def own(self) -> Labels:
        """The labels of its values."""
        app = ("app", self.status.app)
        return (app, ("pod", self.pod)) if self.pod else (app,)


def of_apps(gatling: Gatling, shown: Sequence[App]) -> str:
    """Measure these apps, and return their metrics as text."""
    from gatling.operations import overview

    here = [app for app in shown if app.platform is None]
    nodes = measured(gatling, here, _numbers)
    samples = []
    for each in overview.every(gatling, here):
        node, events = nodes.get(each.app, (None, ()))
        program = usage.of_program(each.pid) if each.pid else None
        samples.append(Sample(each, node, events, program=program))
    if len(here) < len(shown):
        samples += _on_clusters(gatling, [app for app in shown if app.platform is not None])
    return text(samples, totals(gatling, [app.name for app in here]))


def _on_clusters(gatling: Gatling, shown: Sequence[App]) -> Iterator[Sample]:
    """A sample of each instance; one of the app where it has none or the cluster is away."""
    from gatling.operations import cluster_stats, clusters  # which load the client of Kubernetes

    def measure(node: Sight, app: App) -> tuple[_Node, int | None]:
        return _numbers(node, app), node.resident()

    found = cluster_stats.of_apps(gatling, shown, measure)
    for app in shown:
        seen = found[app.name]
        status = clusters.described(gatling, app, seen.pods, seen.problem)
        for pod in seen.pods:
            (node, events), memory = seen.measured.get(pod.name, ((None, ()), None))
            own = structs.replace(
                status, memory=memory, restarts=clusters.restarts_lately(pod),
                uptime=seconds_since(pod.started_at) if pod.started_at else None,
                cpu_seconds=node.runtime_ms / 1000 if node else None,
            )  # fmt: skip
            yield Sample(own, node, events, pod.name)
        if not seen.pods:
            yield Sample(status, None)


def measured(
    gatling: Gatling, shown: Sequence[App], measure: Callable[[Sight, App], Result]
) -> dict[str, Result]:
    """Measure the nodes of these apps; those that do not answer are left out.

    Several are measured at the same time, so that those that hang cost no more than one.
    """
    from gatling.deploy import live_node

    ready: list[tuple[App, Callable[[], AbstractContextManager[Sight]]]] = []
    for app in shown:
        if app.live_slot is not None and app.wanted == "running":
            with contextlib.suppress(GatlingError, OSError):
                ready.append((app, live_node.observer(gatling, app)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda one: _measured(one[0], one[1], measure), ready)
        return {
            app.name: node for (app, _), node in zip(ready, found, strict=True) if node is not None
        }


def _measured(
    app: App,
    connect: Callable[[], AbstractContextManager[Sight]],
    measure: Callable[[Sight, App], Result],
) -> Result | None:
    try:
        with connect() as node:
            return measure(node, app)
    except (GatlingError, OSError):
        return None


def _numbers(node: Sight, app: App) -> _Node:
    from gatling.operations import stats

    found = stats.reported(node, app)
    return node.numbers(), found.events if found else ()


def totals(gatling: Gatling, shown: Sequence[str]) -> dict[str, Totals]:
    """The requests to each app since they were counted first, which only grow."""
    log = gatling.router.request_log()
    if log is None:
        return {}
    gatling.router.tidy_log()
    try:
        found = request_totals.update(log, gatling.home.run / "request-totals.json")
    except OSError:
        return {}
    return {app: found.get(app, request_totals.Totals()) for app in shown}


# ---------------------------------------------------------------- pure


def text(samples: Sequence[Sample], totals: Mapping[str, Totals]) -> str:
    """The metrics as text."""
    metrics = [
        *_of_instances(samples),
        *_of_programs(samples),
        *_of_requests(totals),
        *_of_nodes(samples),
        *_of_events(samples),
    ]
    return "".join(line for metric in metrics if metric.points for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
    for suffix, labels, value in metric.points:
        written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
        yield f"{metric.name}{suffix}{{{written}}} {_number(value)}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _simple(
    name: str, kind: str, said: str, values: Iterable[tuple[Labels, float | None]]
) -> Metric:
    points = [Point("", labels, value) for labels, value in values if value is not None]
    return Metric(name, kind, said, points)


def _of_instances(samples: Sequence[Sample]) -> list[Metric]:
    def metric(name: str, kind: str, said: str, values: list[float | None]) -> Metric:
        owners = [each.own for each in samples]
        return _simple(f"gatling_{name}", kind, said, zip(owners, values, strict=True))

    every = [each.status for each in samples]
    apps = list({one.app: one for one in every}.values())
    releases = _simple(
        "gatling_app_info", "gauge", "The live release of an app.",
        (((("app", one.app), ("release", one.release), ("version", one.version or "")), 1)
         for one in apps if one.release),
    )  # fmt: skip
    return [
        _simple("gatling_app_up", "gauge", "1 if an instance of the app runs, otherwise 0.",
                (((("app", one.app),), float(one.state == "running")) for one in apps)),
        releases,
        metric("app_node_reachable", "gauge", "1 if the node answered, otherwise 0.",
               [float(each.node is not None) for each in samples]),
        metric("instance_uptime_seconds", "gauge", "Time since the start of the live instance.",
               [one.uptime for one in every]),
        metric("instance_memory_bytes", "gauge", "Memory of the live instance.",
               [one.memory for one in every]),
        metric("instance_cpu_seconds_total", "counter", "Processor time of the live instance.",
               [one.cpu_seconds for one in every]),
        metric("instance_restarts_last_hour", "gauge", "Restarts that nobody asked for.",
               [float(one.restarts) for one in every]),
    ]  # fmt: skip


def _of_programs(samples: Sequence[Sample]) -> list[Metric]:
    every = [each.status for each in samples]
    programs = [each.program for each in samples]
    owners = [each.own for each in samples]
    rows: list[tuple[str, str, str, list[float | None]]] = [
        ("resident_memory_bytes", "gauge", "Memory of the live instance.",
         [one.memory for one in every]),
        ("virtual_memory_bytes", "gauge", "Address space of the OS process.",
         [one and one.virtual_memory for one in programs]),
        ("cpu_seconds_total", "counter", "Processor time of the live instance.",
         [one.cpu_seconds for one in every]),
        ("uptime_seconds", "gauge", "Time since the start of the live instance.",
         [one.uptime for one in every]),
        ("threads_total", "gauge", "Threads of the OS process.",
         [one and one.threads for one in programs]),
        ("open_fds", "gauge", "Files and sockets that the OS process has open.",
         [one and one.files for one in programs]),
        ("max_fds", "gauge", "Limit of that number.",
         [one and one.files_limit for one in programs]),
    ]  # fmt: skip
    return [
        _simple(f"process_{name}", kind, said, zip(owners, values, strict=True))
        for name, kind, said, values in rows
    ]


def _of_requests(totals: Mapping[str, Totals]) -> list[Metric]:
    responses = _simple(
        "gatling_http_requests_total", "counter", "Requests to the app, by status of the response.",
        (
            ((("app", app), ("status", str(status))), float(count))
            for app, total in totals.items()
            for status, count in sorted(total.statuses.items())
        ),
    )  # fmt: skip
    points: list[Point] = []
    bounds = [*(str(bound / 1000) for bound in figures.BOUNDS), "+Inf"]
    for app, total in totals.items():
        own = ("app", app)
        for bound, count in zip(bounds, total.histogram, strict=True):
            points.append(Point("_bucket", (own, ("le", bound)), count))
        points.append(Point("_sum", (own,), total.milliseconds / 1000))
        points.append(Point("_count", (own,), total.histogram[-1]))
    said = "Time until the app began its response, as seen by the proxy."
    durations = Metric("gatling_http_request_duration_seconds", "histogram", said, points)
    return [responses, durations]


def _of_events(samples: Sequence[Sample]) -> list[Metric]:
    failed: list[Point] = []
    waited: list[Point] = []
    took: list[Point] = []
    bounds = [*(str(bound / 1000) for bound in figures.BOUNDS), "+Inf"]
    for labels, each in ((one.own, each) for one in samples for each in one.events):
        own: Labels = (*labels, ("kind", each.kind), ("name", " ".join(each.name)))
        failed.append(Point("", own, each.failed))
        waited.append(Point("", own, each.queue_us / 1e6))
        seen = 0
        for bound, number in zip(bounds, each.ranges, strict=True):
            seen += number
            took.append(Point("_bucket", (*own, ("le", bound)), seen))
        took += [Point("_sum", own, each.us / 1e6), Point("_count", own, seen)]
    return [
        Metric("gatling_event_failures_total", "counter",
               "Failed requests by route, LiveView callbacks, queries and jobs.", failed),
        Metric("gatling_event_wait_seconds_total", "counter",
               "Time in which queries waited for a connection, and jobs for their turn.", waited),
        Metric("gatling_event_duration_seconds", "histogram",
               "Durations of requests by route, LiveView callbacks, queries and jobs.", took),
    ]  # fmt: skip


def _of_nodes(samples: Sequence[Sample]) -> list[Metric]:
    nodes = [(each.own, each.node) for each in samples if each.node is not None]
    found: dict[str, Metric] = {}
    for own, node in nodes:
        for name, kind, said, labels, value in _values(node):
            metric = found.setdefault(name, Metric(f"erlang_vm_{name}", kind, said, []))
            metric.points.append(Point("", (*own, *labels), value))
    return list(found.values())


def _values(node: Numbers) -> Iterator[tuple[str, str, str, Labels, float]]:
    """The values of one node: name, type, help, labels and number."""
    memory = node.memory
    for kind, count in (("system", memory.system), ("processes", memory.processes)):
        yield "memory_bytes_total", "gauge", "Memory in use.", (("kind", kind),), count
    for name, used, total in (
        ("atom", memory.atom_used, memory.atom),
        ("processes", memory.processes_used, memory.processes),
    ):
        said = f"Memory of {name}."
        yield f"memory_{name}_bytes_total", "gauge", said, (("usage", "used"),), used
        yield f"memory_{name}_bytes_total", "gauge", said, (("usage", "free"),), total - used
    other = memory.system - memory.atom - memory.binary - memory.code - memory.ets
    for part, count in (
        ("atom", memory.atom), ("binary", memory.binary), ("code", memory.code),
        ("ets", memory.ets), ("other", other),
    ):  # fmt: skip
        said = "Memory that belongs to no process."
        yield "memory_system_bytes_total", "gauge", said, (("usage", part),), count
    limits = node.limits
    for one, many, has in (
        ("process", "processes", limits.process), ("port", "ports", limits.port),
        ("atom", "atoms", limits.atom), ("ets", "ets_tables", limits.ets),
    ):  # fmt: skip
        said = f"Number of {many.replace('_', ' ')}."
        yield f"{one}_count", "gauge", said, (), has.count
        yield many, "gauge", said, (), has.count
        yield f"{one}_limit", "gauge", f"Limit of that number ({one}).", (), has.limit
    queue = "Processes and ports that are ready to run."
    yield "statistics_run_queues_length_total", "gauge", queue, (), node.run_queues
    yield "statistics_run_queues_length", "gauge", queue, (), node.run_queues
    yield "dets_tables", "gauge", "Open DETS tables.", (), node.dets
    yield "schedulers_online", "gauge", "Schedulers that run.", (), node.schedulers
    if node.utilisation >= 0:
        said = "Share of time in which schedulers for the processor ran something."
        yield "scheduler_utilization", "gauge", said, (), node.utilisation / 1000
    reclaimed = node.reclaimed_words
    for name, said, value in (
        ("reductions_total", "Reductions.", node.reductions),
        ("context_switches", "Context switches.", node.context_switches),
        ("bytes_output_total", "Bytes that ports have sent.", node.bytes_out),
        ("bytes_received_total", "Bytes that ports have received.", node.bytes_in),
        ("garbage_collection_number_of_gcs", "Garbage collections.", node.gcs),
        ("garbage_collection_words_reclaimed", "Words that those reclaimed.", reclaimed),
        (
            "garbage_collection_bytes_reclaimed",
            "Bytes that those reclaimed.",
            reclaimed * node.wordsize,
        ),
        ("runtime_milliseconds", "Processor time of the node.", node.runtime_ms),
        ("wallclock_time_milliseconds", "Time since the start of the node.", node.uptime_ms),
    ):
        yield f"statistics_{name}", "counter", said, (), value
