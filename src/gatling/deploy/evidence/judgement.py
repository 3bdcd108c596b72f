"""Whether the figures of a release are worse than those of the release before. Pure.

Errors are responses of status 500 and above; latency is the time until the app's response begins.
Chance must not undo a release: each criterion needs a number of requests, a difference that
matters, and a probability below `CHANCE` that both releases are alike (Fisher's exact test).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gatling.ui.output import duration

if TYPE_CHECKING:
    from gatling.proxy.figures import Figures

CHANCE = 0.001
"""Probability of chance alone, below which a difference counts."""
FEWEST = 20
"""Requests below which no release is judged."""
FEWEST_ERRORS = 5
MORE_ERRORS = 0.02
"""The share of errors must have risen by so much."""
FEWEST_BEFORE = 100
"""Requests below which the release before is not known well, and latency is not judged."""
ASSUMED = 20
"""A release that is not known well is taken for one with one more error in so many requests."""
SLOWER = 2
SLOWER_MS = 50
"""The 95th percentile must have risen by this factor, and by so much."""
PERCENTILE = 0.95


class Served(NamedTuple):
    """The responses of a release within a time, as far as releases are compared."""

    seconds: float
    requests: int
    errors: int
    p95: int
    """The 95th percentile of latencies, in ms; 0 without any."""
    slow: int
    """The requests that took as long as the limit, or longer."""

    @property
    def error_share(self) -> float:
        """The share of requests that failed."""
        return self.errors / self.requests if self.requests else 0.0


def served(figures: Figures, seconds: float, limit: int | None = None) -> Served:
    """The figures of a release; `limit` is in ms, by default the one for a release after it."""
    p95 = figures.quantile(PERCENTILE) or 0
    at_least = too_slow(p95) if limit is None else limit
    slow = sum(count for took, count in figures.latencies.items() if took >= at_least)
    return Served(seconds, figures.requests, figures.failed, p95, slow)


def too_slow(p95: int) -> int:
    """The 95th percentile from which on a release is slower than one with this one, in ms."""
    return max(SLOWER * p95, p95 + SLOWER_MS)


def against(before: Served, after: Figures, seconds: float, chance: float = CHANCE) -> str:
    """Why a release must be undone, as a sentence; empty when its figures are no worse.

    `seconds` is the time since the switch. A caller that asks repeatedly takes a smaller `chance`.
    """
    now = served(after, seconds, too_slow(before.p95))
    if now.requests < FEWEST:
        return ""
    return _errors(before, now, chance) or _latency(before, now, chance)


def _errors(before: Served, after: Served, chance: float) -> str:
    risen = after.error_share - before.error_share
    if after.errors < FEWEST_ERRORS or risen < MORE_ERRORS:
        return ""
    known = (before.errors, before.requests)
    if before.requests < FEWEST_BEFORE:
        known = (before.errors + FEWEST_ERRORS, before.requests + FEWEST_ERRORS * ASSUMED)
    if by_chance(known, (after.errors, after.requests)) >= chance:
        return ""
    than = f", {_failed(before)} before it" if before.requests else ""
    return f"Within {duration(after.seconds)} after the switch {_failed(after)}{than}."


def _latency(before: Served, after: Served, chance: float) -> str:
    """Compare how many requests took that long: it says more than two percentiles.

    Of the release before fewer than one in twenty did.
    """
    if min(before.requests, after.requests) < FEWEST_BEFORE:
        return ""
    if after.p95 < too_slow(before.p95):
        return ""
    if by_chance((before.slow, before.requests), (after.slow, after.requests)) >= chance:
        return ""
    return (
        f"Within {duration(after.seconds)} after the switch the 95th percentile of response times"
        f" was {after.p95} ms for {after.requests} requests, {before.p95} ms before it."
    )


def in_words(before: Served, after: Figures, seconds: float) -> str:
    """The figures for people; empty when they are too few to say anything."""
    now = served(after, seconds)
    if now.requests < FEWEST:
        return ""
    known = f", {_failed(before)}, p95 {before.p95} ms before it" if before.requests else ""
    return f"traffic since the switch: {_failed(now)}, p95 {now.p95} ms{known}"


def by_chance(before: tuple[int, int], after: tuple[int, int]) -> float:
    """The probability that so many of the errors or more fall on the requests after, if alike.

    Both are errors and requests: the upper tail of the hypergeometric distribution.
    """
    (errors_before, old), (errors, new) = before, after
    every = errors_before + errors
    if errors * (old + new) <= every * new:
        return 1.0
    total, number = 0.0, errors
    term = math.exp(_chosen(new, errors) + _chosen(old, errors_before) - _chosen(old + new, every))
    while number <= min(every, new) and term > total * 1e-9:
        total += term
        term *= (new - number) * (every - number) / ((number + 1) * (old - every + number + 1))
        number += 1
    return min(1.0, total)


def _chosen(every: int, some: int) -> float:
    """The logarithm of the binomial coefficient."""
    return math.lgamma(every + 1) - math.lgamma(some + 1) - math.lgamma(every - some + 1)


def _failed(seen: Served) -> str:
    return f"{seen.errors} of {seen.requests} requests failed ({100 * seen.error_share:.1f} %)"
