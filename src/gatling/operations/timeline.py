"""The numbers of an app over time, with what happened: the typed results behind `gatling watch`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import times
from gatling.errors import NotFound
from gatling.operations import alerts, sampling
from gatling.platform.homes import is_missing
from gatling.project.settings import Alerts
from gatling.state import apps, audit, deployments, notices, releases, runs, samples
from gatling.state.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatling.platform.open import Gatling

WATCHED = "watch"
"""The condition that says whether samples are taken."""
POINTS = 24
"""Rows that are shown, at most."""
AUDITED = {"certificates ": "certificate", "alert ": "alert", "db backup": "backup"}
"""The kinds of marks that the audit has, by how their actions begin."""
STALE_SECONDS = 60
"""The age of the newest sample from which on none are being taken."""


class Point(Struct, frozen=True, kw_only=True):
    """The numbers of an app within a stretch of time. None: not measured."""

    at: str
    """Its beginning."""
    seconds: float
    """How much of it was measured."""
    up: float
    """For how many of these seconds the app ran."""
    requests: int
    per_second: float
    failed: int
    """Responses of status 500 and above."""
    p50_ms: float | None
    """Estimated from ranges, like the others."""
    p95_ms: float | None
    p99_ms: float | None
    cpu: float
    """Percent of one processor."""
    memory: int | None
    """Bytes that the instance had in memory, at most, like what follows."""
    node_memory: int | None
    processes: int | None
    run_queue: int | None
    messages: int | None


class Mark(Struct, frozen=True):
    """A thing that happened."""

    at: str
    kind: str
    """`deployment`, `instance`, `job`, `backup`, `certificate` or `alert`."""
    text: str


class Timeline(Struct, frozen=True, kw_only=True):
    """The numbers of an app over time."""

    app: str
    since: str
    until: str
    step: int
    """Seconds from one point to the next."""
    points: list[Point]
    marks: list[Mark]


class Alert(Struct, frozen=True):
    """An alert that is on."""

    app: str
    rule: str
    since: str
    text: str


class WatchStatus(Struct, frozen=True, kw_only=True):
    """Whether samples are taken, and the alerts that are on."""

    on: bool
    sampled_at: str | None
    """The time of the newest sample."""
    working: bool
    """Whether it is recent."""
    bytes: int
    """The size of the file of samples."""
    alerts: list[Alert]
    rules: dict[str, str]
    """When each alert begins in an app without settings of its own."""


def switch(gatling: Gatling, *, on: bool) -> None:
    """Take samples from now on, over boots, or no more. Samples that were taken stay.

    Raises NotFound without a home.
    """
    if is_missing(gatling.home):
        raise NotFound("There are no apps here yet.", hint="`gatling load APP` creates one.")
    gatling.schedule.sample(wanted=on)
    with gatling.db.transaction(durable=True):
        notices.set_condition(gatling.db, WATCHED, "on" if on else "off")
        if not on:
            for app in apps.every(gatling.db, clusters=True):
                for rule in sampling.begun(gatling, app.name):
                    notices.forget_condition(gatling.db, f"{app.name}/alert/{rule}")
    audit.record(gatling.db, gatling.actor, None, "watch on" if on else "watch off")


def is_on(gatling: Gatling) -> bool:
    """Whether samples are to be taken."""
    return notices.condition(gatling.db, WATCHED) == "on"


def follow(gatling: Gatling) -> None:
    """Have samples taken if they are to be: after a restore, say."""
    if is_on(gatling):
        gatling.schedule.sample(wanted=True)


def status(gatling: Gatling, shown: Sequence[str]) -> WatchStatus:
    """Whether samples are taken, and the alerts of these apps that are on."""
    file, newest = sampling.file_of(gatling), None
    if file.exists():
        with samples.opened(file) as store:
            newest = store.newest()
    on = is_on(gatling)
    return WatchStatus(
        on=on,
        sampled_at=times.stamp_of(newest) if newest is not None else None,
        working=on and newest is not None and time.time() - newest < STALE_SECONDS,
        bytes=file.stat().st_size if file.exists() else 0,
        alerts=[
            Alert(app, rule, value["at"], value["text"])
            for app in shown
            for rule, value in sampling.begun(gatling, app).items()
        ],
        rules=alerts.described(Alerts()),
    )


def of_app(
    gatling: Gatling, name: str, since: float, until: float | None = None, points: int = POINTS
) -> Timeline:
    """The numbers of an app between two Unix times, in that many points; raises NotFound."""
    apps.get(gatling.db, name)
    until = time.time() if until is None else until
    series = samples.series_for(time.time() - since)
    step = _step(until - since, series.step, points)
    found: list[tuple[int, Sample]] = []
    if sampling.file_of(gatling).exists():
        with samples.opened(sampling.file_of(gatling)) as store:
            found = store.of_app(name, series.step, since // step * step, until)
    return Timeline(
        app=name,
        since=times.stamp_of(since),
        until=times.stamp_of(until),
        step=step,
        points=[_point(at, each) for at, each in condensed(found, step)],
        marks=sorted(_marks(gatling, name, since, until), key=lambda mark: mark.at),
    )


def of_apps(
    gatling: Gatling, names: Sequence[str], since: float, points: int = POINTS
) -> dict[str, list[Point]]:
    """The numbers of several apps since a Unix time; without those of which there are none."""
    until = time.time()
    series = samples.series_for(until - since)
    step = _step(until - since, series.step, points)
    if not sampling.file_of(gatling).exists():
        return {}
    with samples.opened(sampling.file_of(gatling)) as store:
        found = {
            name: store.of_app(name, series.step, since // step * step, until) for name in names
        }
    return {
        name: [_point(at, each) for at, each in condensed(rows, step)]
        for name, rows in found.items()
        if rows
    }


def condensed(found: Sequence[tuple[int, Sample]], step: int) -> list[tuple[int, Sample]]:
    """The same samples in longer steps. Pure."""
    longer: dict[int, Sample] = {}
    for at, sample in found:
        longer.setdefault(at // step * step, Sample()).add(sample)
    return sorted(longer.items())


def _step(seconds: float, least: int, points: int) -> int:
    """The seconds of a point: as many samples as make at most so many points."""
    return max(1, -(-int(seconds) // (least * points))) * least


def _point(at: int, each: Sample) -> Point:
    return Point(
        at=times.stamp_of(at),
        seconds=round(each.seconds, 1),
        up=round(each.up, 1),
        requests=each.requests,
        per_second=round(each.requests / each.seconds, 2) if each.seconds else 0.0,
        failed=each.failed,
        p50_ms=alerts.quantile(each, 0.5),
        p95_ms=alerts.quantile(each, 0.95),
        p99_ms=alerts.quantile(each, 0.99),
        cpu=round(100 * each.cpu / each.seconds, 1) if each.seconds else 0.0,
        memory=each.memory or None,
        node_memory=each.node_memory or None,
        processes=each.processes or None,
        run_queue=each.run_queue if each.run_queue >= 0 else None,
        messages=each.messages if each.messages >= 0 else None,
    )


def _marks(gatling: Gatling, name: str, since: float, until: float) -> Iterator[Mark]:
    """Everything that the records know of that time."""
    begin, end = times.stamp_of(since), times.stamp_of(until)
    labels = {one.number: one.label for one in releases.every(gatling.db, name)}
    for one in deployments.of_app(gatling.db, name):
        if begin <= one.started_at < end:
            label = labels.get(one.release or 0, f"v{one.release}" if one.release else "")
            text = " ".join(filter(None, (one.cause, label, one.strategy, one.outcome)))
            yield Mark(one.started_at, "deployment", text)
    for run in runs.of_app(gatling.db, name):
        if begin <= run.started_at < end:
            yield Mark(run.started_at, "job", f"{run.job} {run.outcome}")
    slots: list[int | str] = [*apps.SLOTS, *gatling.instances.process_slots(name)]
    for slot in slots:
        for ended in gatling.instances.ends(name, slot):
            if begin <= ended.stamp < end:
                yield Mark(ended.stamp, "instance", f"{ended.cause}, started again")
    for entry in audit.latest(gatling.db, name):
        kind = next((known for start, known in AUDITED.items() if entry.action.startswith(start)),
                    None)  # fmt: skip
        if kind is not None and begin <= entry.at < end:
            yield Mark(entry.at, kind, f"{entry.action}: {entry.detail}".removesuffix(": "))
