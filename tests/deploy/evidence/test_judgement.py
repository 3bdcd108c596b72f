"""Whether figures speak against a release: enough of them, and not by chance."""

from __future__ import annotations

import random
from collections import Counter
from math import comb
from typing import TYPE_CHECKING

import pytest

from gatling.deploy.evidence import judgement
from gatling.deploy.evidence.judgement import Served, by_chance, in_words, served
from gatling.proxy.figures import Figures

if TYPE_CHECKING:
    from collections.abc import Sequence


def counted(errors: int, latencies: Sequence[int]) -> Figures:
    return Figures({200: len(latencies) - errors, 500: errors}, dict(Counter(latencies)))


def figures(requests: int, errors: int = 0, ms: float = 20.0) -> Figures:
    """Figures with response times spread evenly, of which `ms` is the 95th percentile."""
    return counted(errors, [round(ms / 0.95 * (n + 1) / requests) for n in range(requests)])


def against(before: Figures, after: Figures, chance: float = judgement.CHANCE) -> str:
    return judgement.against(served(before, 240), after, 5, chance)


NONE = figures(0)


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (NONE, NONE, False),
        (figures(6000), figures(100, 5), True),  # five percent
        (figures(6000), figures(100, 4), False),  # four errors may be one client's
        (NONE, figures(19, 19), False),  # too few to judge
        (NONE, figures(20, 5), False),  # perhaps it was so before
        (NONE, figures(20, 10), True),
        (NONE, figures(300, 60), True),
        (figures(6000, 300), figures(1000, 52), False),  # as before
        (figures(6000, 300), figures(1000, 150), True),
        (figures(6000, 60), figures(10_000, 250), False),  # significant, and yet little
        (figures(10, 1), figures(30, 5), False),
    ],
)
def test_errors(before: Figures, after: Figures, worse: bool) -> None:
    assert ("requests failed" in against(before, after)) == worse


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (figures(1000, ms=60), figures(200, ms=130), True),  # doubled
        (figures(1000, ms=60), figures(200, ms=115), False),
        (figures(1000, ms=4), figures(200, ms=20), False),  # nobody notices 16 ms
        (figures(99, ms=60), figures(200, ms=300), False),
        (figures(1000, ms=60), figures(99, ms=300), False),
        (NONE, figures(200, ms=3000), False),
    ],
)
def test_latency(before: Figures, after: Figures, worse: bool) -> None:
    assert ("95th percentile" in against(before, after)) == worse


def test_the_sentences_name_both_sides() -> None:
    before, after = figures(1000), figures(200, 20)
    assert against(before, after) == (
        "Within 5.0 s after the switch 20 of 200 requests failed (10.0 %),"
        " 0 of 1000 requests failed (0.0 %) before it."
    )
    slow = figures(200, ms=300)
    assert against(figures(1000, ms=60), slow) == (
        "Within 5.0 s after the switch the 95th percentile of response times was 300 ms for"
        " 200 requests, 60 ms before it."
    )
    assert in_words(served(before, 240), after, 5) == (
        "traffic since the switch: 20 of 200 requests failed (10.0 %), p95 20 ms,"
        " 0 of 1000 requests failed (0.0 %), p95 20 ms before it"
    )
    assert in_words(served(before, 240), figures(19), 5) == ""


def test_the_same_release_is_hardly_ever_worse_than_itself() -> None:
    """Five hundred watches of releases that fail as often and take as long as the ones before."""
    chance, undone = random.Random(7), 0

    def some(number: int) -> Figures:
        errors = sum(chance.random() < 0.02 for _ in range(number))
        return counted(
            errors, [int(1000 * chance.lognormvariate(-3.5, 0.8)) for _ in range(number)]
        )

    for _ in range(500):
        undone += bool(against(some(chance.randrange(400)), some(chance.randrange(100, 300))))
    assert undone <= 2


def test_a_release_that_fails_one_request_in_twenty_is_worse_soon() -> None:
    """Undone with 250 requests, in 19 of 20 watches."""
    chance, undone = random.Random(7), 0
    for _ in range(400):
        errors = sum(chance.random() < 0.05 for _ in range(250))
        undone += bool(against(figures(1000), figures(250, errors)))
    assert undone >= 380


@pytest.mark.parametrize(
    ("before", "after"), [((0, 100), (5, 100)), ((3, 50), (9, 40)), ((2, 1000), (20, 20))]
)
def test_the_tail_is_exact(before: tuple[int, int], after: tuple[int, int]) -> None:
    (errors_before, old), (errors, new) = before, after
    every = errors_before + errors
    ways = sum(comb(new, n) * comb(old, every - n) for n in range(errors, min(every, new) + 1))
    exact = ways / comb(old + new, every)
    assert by_chance(before, after) == pytest.approx(exact, rel=1e-6)


def test_the_tail_of_many_requests() -> None:
    assert by_chance((0, 0), (20, 20)) == 1.0
    assert by_chance((3000, 400_000), (3000, 400_000)) == 1.0
    assert 0.3 < by_chance((3000, 400_000), (3020, 400_000)) < 0.5
    assert by_chance((3000, 400_000), (9000, 400_000)) < 1e-30


def test_figures_that_are_compared() -> None:
    seen = Figures({200: 2, 101: 4, 500: 1, 404: 1}, {10: 1, 100: 2, 300: 1})
    found = served(seen, 5)
    assert found == Served(5, 4, 1, 300, 0)
    assert found.error_share == 0.25
    assert served(seen, 5, 100).slow == 3
    assert (served(Figures(), 1), served(Figures(), 1).error_share) == (Served(1, 0, 0, 0, 0), 0)
