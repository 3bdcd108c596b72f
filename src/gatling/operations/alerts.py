"""Alerts: numbers of an app that are out of their range, and are again within it. Pure.

An alert begins above one bound and ends below a lower one, so that a number near its bound makes no
stream of notifications. The bounds are settings of the app, with defaults that fit any app. A
number that is not known begins no alert and ends none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gatling.project.settings import Alerts
from gatling.proxy import figures
from gatling.state.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WINDOW_SECONDS = 300
"""The samples that are judged."""
LEAST_SHARE = 0.5
"""The share of the window that must have been measured."""
LEAST_REQUESTS, LEAST_FAILED = 20, 5
LEAST_TIMED = 50
LOOKS = 2
"""Looks at queues one after another, each a minute after the last."""

RULES = ("errors", "latency", "memory", "run_queue", "messages")
"""The alerts. Each begins at the setting of its name, unless that is 0 …"""
ENDS = {"errors": 0.4, "latency": 0.67, "memory": 0.944, "run_queue": 0.5, "messages": 0.5}
"""… and ends below this share of it."""


def described(bounds: Alerts) -> dict[str, str]:
    """When each alert begins, in words; those that are off are left out."""
    found = {
        "errors": f"{bounds.errors:g} % of the requests of five minutes failed (at least 5 of 20)",
        "latency": f"the p95 of five minutes is {bounds.latency} ms or above"
        + (f", and {bounds.latency_ratio:g} times as long as usual" * bool(bounds.latency_ratio)),
        "memory": f"the instance has used {bounds.memory} % of its limit for five minutes",
        "run_queue": f"{bounds.run_queue:g} processes for each scheduler have waited for five"
        " minutes",
        "messages": f"a process has had {bounds.messages} messages in its queue for two minutes",
    }
    return {rule: text for rule, text in found.items() if getattr(bounds, rule)}


class Facts(NamedTuple):
    """The numbers of an app that are judged."""

    recent: Sequence[Sample]
    """Those of WINDOW_SECONDS, the oldest first, of the finest series."""
    step: int
    """Seconds of each."""
    usual_p95: float | None
    """The p95 of the day before, in ms."""
    memory_limit: int | None
    """Bytes."""
    schedulers: int
    bounds: Alerts = Alerts()
    """The settings `alerts` of the app."""


class Judged(NamedTuple):
    """The answer of a rule: whether its alert is on, and the number in words."""

    rule: str
    on: bool
    text: str
    off: bool = False
    """Whether the rule was turned off, so that nothing is known of the number."""


def quantile(sample: Sample, share: float) -> float | None:
    """A latency in ms, estimated from ranges; None without a request."""
    return figures.estimated(sample.ranges, share) if sum(sample.ranges) else None


def judged(facts: Facts, on: Mapping[str, object]) -> list[Judged]:
    """The answers of the rules that know one; `on` has the alerts that have begun."""
    off = [
        Judged(rule, False, f"alerts.{rule} is 0", off=True)
        for rule in on if rule in RULES and not getattr(facts.bounds, rule)
    ]  # fmt: skip
    every = (*_requests(facts, on), *_gauges(facts, on))
    return [*off, *(one for one in every if getattr(facts.bounds, one.rule))]


def _bound(facts: Facts, rule: str, on: Mapping[str, object]) -> float:
    """The number at which an alert begins, or that it must exceed to go on."""
    return float(getattr(facts.bounds, rule)) * (ENDS[rule] if rule in on else 1)


def _requests(facts: Facts, on: Mapping[str, object]) -> Iterator[Judged]:
    whole = Sample()
    for each in facts.recent:
        whole.add(each)
    if whole.requests >= LEAST_REQUESTS:
        percent, bound = 100 * whole.failed / whole.requests, _bound(facts, "errors", on)
        text = f"{whole.failed} of {whole.requests} requests failed ({percent:.1f} %)"
        if "errors" in on:
            yield Judged("errors", percent > bound, text)
        else:
            yield Judged("errors", percent >= bound and whole.failed >= LEAST_FAILED, text)
    elif whole.seconds >= WINDOW_SECONDS * LEAST_SHARE:  # almost none: nothing that could go on
        yield Judged("errors", False, f"{whole.failed} of {whole.requests} requests failed")
    p95 = quantile(whole, 0.95)
    ratio, usual = facts.bounds.latency_ratio, facts.usual_p95
    if p95 is not None and sum(whole.ranges) >= LEAST_TIMED and (usual is not None or not ratio):
        least = ratio * (usual or 0) * (ENDS["latency"] if "latency" in on else 1)
        text = f"p95 {p95:.0f} ms" + (f", usually {usual:.0f} ms" if usual is not None else "")
        yield Judged("latency", p95 >= max(_bound(facts, "latency", on), least), text)
    elif whole.seconds >= WINDOW_SECONDS * LEAST_SHARE and sum(whole.ranges) < LEAST_TIMED:
        yield Judged("latency", False, "hardly any requests")


def _gauges(facts: Facts, on: Mapping[str, object]) -> Iterator[Judged]:
    known = [each for each in facts.recent if each.up]
    enough = sum(each.seconds for each in known) >= WINDOW_SECONDS * LEAST_SHARE
    memory = [each.memory for each in known if each.memory]
    if enough and memory and facts.memory_limit:
        newest = 100 * memory[-1] / facts.memory_limit
        judged_by = newest if "memory" in on else 100 * min(memory) / facts.memory_limit
        text = f"{newest:.0f} % of the limit for memory are in use"
        yield Judged("memory", judged_by >= _bound(facts, "memory", on), text)
    waiting = [each.run_queue / max(1, facts.schedulers) for each in known if each.run_queue >= 0]
    if len(waiting) * facts.step >= WINDOW_SECONDS * LEAST_SHARE:
        text = f"{waiting[-1]:.1f} processes wait for each scheduler"
        yield Judged("run_queue", min(waiting) >= _bound(facts, "run_queue", on), text)
    queues = [each.messages for each in known if each.messages >= 0][-LOOKS:]
    if len(queues) == LOOKS:
        text = f"a process has {queues[-1]} messages in its queue"
        yield Judged("messages", min(queues) >= _bound(facts, "messages", on), text)
