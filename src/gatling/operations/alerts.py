"""Alerts: numbers of an app that are out of their range, and are again within it. Pure.

An alert begins above one bound and ends below a lower one, so that a number near its bound makes no
stream of notifications. All bounds are shares or times that fit any app. A number that is not known
begins no alert and ends none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gatling.proxy import figures
from gatling.state.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WINDOW_SECONDS = 300
"""The samples that are judged."""
LEAST_SHARE = 0.5
"""The share of the window that must have been measured."""
ERRORS, ERRORS_OVER = 0.05, 0.02
"""Shares of requests that fail."""
LEAST_REQUESTS, LEAST_FAILED = 20, 5
LATENCY_MS, LATENCY_TIMES, LATENCY_OVER = 1000, 3, 0.67
"""A p95 that is long, that is so many times longer than usual, and the share of both at the end."""
LEAST_TIMED = 50
MEMORY, MEMORY_OVER = 0.9, 0.85
"""Shares of the limit of an instance's memory."""
RUN_QUEUE, RUN_QUEUE_OVER = 4.0, 2.0
"""Processes for each scheduler that are ready and have to wait."""
MESSAGES, MESSAGES_OVER = 10_000, 5000
"""Messages in the queue of one process …"""
LOOKS = 2
"""… in so many looks one after another, each a minute after the last."""

RULES: dict[str, str] = {
    "errors": "5 % of the requests of five minutes failed (at least 5 of 20)",
    "latency": "the p95 of five minutes is above a second, and three times as long as usual",
    "memory": "the instance has used 90 % of its limit for five minutes",
    "run_queue": "four processes for each scheduler have waited for five minutes",
    "messages": "a process has had 10,000 messages in its queue for two minutes",
}
"""When each alert begins."""


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


class Judged(NamedTuple):
    """The answer of a rule: whether its alert is on, and the number in words."""

    rule: str
    on: bool
    text: str


def quantile(sample: Sample, share: float) -> float | None:
    """A latency in ms, estimated from ranges; None without a request."""
    return figures.estimated(sample.ranges, share) if sum(sample.ranges) else None


def judged(facts: Facts, on: Mapping[str, object]) -> list[Judged]:
    """The answers of the rules that know one; `on` has the alerts that have begun."""
    return [*_requests(facts, on), *_gauges(facts, on)]


def _requests(facts: Facts, on: Mapping[str, object]) -> Iterator[Judged]:
    whole = Sample()
    for each in facts.recent:
        whole.add(each)
    if whole.requests >= LEAST_REQUESTS:
        share = whole.failed / whole.requests
        bad = share >= ERRORS and whole.failed >= LEAST_FAILED
        text = f"{whole.failed} of {whole.requests} requests failed ({100 * share:.1f} %)"
        yield Judged("errors", bad or ("errors" in on and share > ERRORS_OVER), text)
    elif whole.seconds >= WINDOW_SECONDS * LEAST_SHARE:  # almost none: nothing that could go on
        yield Judged("errors", False, f"{whole.failed} of {whole.requests} requests failed")
    p95 = quantile(whole, 0.95)
    if p95 is not None and sum(whole.ranges) >= LEAST_TIMED and facts.usual_p95 is not None:
        bound = max(LATENCY_MS, LATENCY_TIMES * facts.usual_p95)
        text = f"p95 {p95:.0f} ms, usually {facts.usual_p95:.0f} ms"
        yield Judged("latency", p95 >= bound * (LATENCY_OVER if "latency" in on else 1), text)
    elif whole.seconds >= WINDOW_SECONDS * LEAST_SHARE and sum(whole.ranges) < LEAST_TIMED:
        yield Judged("latency", False, "hardly any requests")


def _gauges(facts: Facts, on: Mapping[str, object]) -> Iterator[Judged]:
    known = [each for each in facts.recent if each.up]
    enough = sum(each.seconds for each in known) >= WINDOW_SECONDS * LEAST_SHARE
    memory = [each.memory for each in known if each.memory]
    if enough and memory and facts.memory_limit:
        least = min(memory) / facts.memory_limit
        newest = memory[-1] / facts.memory_limit
        text = f"{100 * newest:.0f} % of the limit for memory are in use"
        yield Judged("memory", least >= MEMORY or ("memory" in on and newest > MEMORY_OVER), text)
    waiting = [each.run_queue / max(1, facts.schedulers) for each in known if each.run_queue >= 0]
    if len(waiting) * facts.step >= WINDOW_SECONDS * LEAST_SHARE:
        text = f"{waiting[-1]:.1f} processes wait for each scheduler"
        bound = RUN_QUEUE_OVER if "run_queue" in on else RUN_QUEUE
        yield Judged("run_queue", min(waiting) >= bound, text)
    queues = [each.messages for each in known if each.messages >= 0][-LOOKS:]
    if len(queues) == LOOKS:
        text = f"a process has {queues[-1]} messages in its queue"
        bound = MESSAGES_OVER if "messages" in on else MESSAGES
        yield Judged("messages", min(queues) >= bound, text)
