"""How often, and how soon, the watch of a release undoes it by its figures: a simulation.

    python bench/watch.py [--watches 60]

Each line is a number of watches of five minutes with a look every two seconds, as
operations/watching.py makes them, with chance deciding on each request. No app runs.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import Counter

from gatling.deploy import watch
from gatling.deploy.evidence import judgement
from gatling.operations.watching import LOOK_SECONDS, SURE
from gatling.proxy.figures import Figures

SECONDS = 300
CASES = (
    # share of errors before and after, factor of response times, requests a second
    (0, 0, 1, 20), (0.02, 0.02, 1, 20), (0.05, 0.05, 1, 5), (0, 0.05, 1, 20), (0, 0.05, 1, 5),
    (0, 0.05, 1, 1), (0.01, 0.05, 1, 20), (0, 0, 2.2, 20), (0, 0, 2.2, 5), (0, 0, 3, 20),
)  # fmt: skip


class Traffic:
    """Requests of a release, which fail and take time by chance."""

    def __init__(self, chance: random.Random, errors: float, slower: float) -> None:
        self._chance, self._share, self._slower = chance, errors, slower
        self._seen, self._errors, self._took = 0, 0, Counter[int]()

    def serve(self, requests: int) -> Figures:
        """Serve some more: the figures of all."""
        self._seen += requests
        for _ in range(requests):
            self._errors += self._chance.random() < self._share
            self._took[int(1000 * self._slower * self._chance.lognormvariate(-3.5, 0.8))] += 1
        return Figures({200: self._seen - self._errors, 500: self._errors}, dict(self._took))


def undone_after(
    chance: random.Random, before: float, after: float, slower: float, rate: int
) -> float | None:
    """After how many seconds a watch undoes a release; None if it does not."""
    known = judgement.served(Traffic(chance, before, 1).serve(rate * SECONDS), SECONDS)
    traffic, row = Traffic(chance, after, slower), 0
    for look in range(1, int(SECONDS / LOOK_SECONDS) + 1):
        figures = traffic.serve(int(rate * LOOK_SECONDS))
        row = row + 1 if judgement.against(known, figures, 1, watch.CHANCE) else 0
        if row == SURE:
            return look * LOOK_SECONDS
    return None


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watches", type=int, default=60)
    watches = parser.parse_args().watches
    chance = random.Random(1)  # noqa: S311
    for before, after, slower, rate in CASES:
        results = [undone_after(chance, before, after, slower, rate) for _ in range(watches)]
        undone = sorted(seconds for seconds in results if seconds is not None)
        when = f", median {statistics.median(undone):g} s, last {undone[-1]:g} s" if undone else ""
        print(
            f"{rate} requests/s, errors {before:.0%} → {after:.0%}, response times × {slower:g}:"
            f" {len(undone)} of {watches} undone{when}"
        )


if __name__ == "__main__":
    main()
