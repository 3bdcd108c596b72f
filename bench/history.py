"""Measure a month of samples: the size of the file, and how long samples and questions take.

    python bench/history.py [--apps 50]

fills a file with all samples that are kept of so many apps, each with traffic, then takes one more
sample, removes what is old, opens the file, and asks for the points of one app.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gatling.operations import timeline
from gatling.state import samples
from gatling.state.samples import RANGES, SERIES, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

END = 1_700_000_000 // 600 * 600


def main() -> None:
    """Measure once, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--apps", type=int, default=50)
    names = [f"app-{number}" for number in range(parser.parse_args().apps)]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / samples.FILE
        with samples.opened(file):
            pass
        fill(file, names)
        print(f"{len(names)} apps, 30 days: {file.stat().st_size / 1e6:.1f} MB")
        measured("open the file to take samples", lambda: opened(file, replace=True))
        measured("open it to read", lambda: opened(file))
        with samples.opened(file) as store:
            found = {name: sample(10) for name in names}
            measured("add a sample of all apps", lambda: store.add(END, found))
            measured("remove what is old", lambda: store.tidy(END, names))
            for text, seconds in (("two hours", 7200), ("two days", 2 * 86400),
                                  ("30 days", 30 * 86400)):  # fmt: skip
                measured(f"{text} of an app, in 24 points", lambda: points(store, seconds))  # noqa: B023
        print(f"afterwards: {file.stat().st_size / 1e6:.1f} MB")


def opened(file: Path, *, replace: bool = False) -> None:
    """Open and close the file."""
    with samples.opened(file, replace=replace):
        pass


def points(store: samples.Samples, seconds: int) -> None:
    """What `gatling watch show` asks."""
    step = samples.series_for(seconds).step
    found = store.of_app("app-0", step, END - seconds, END)
    timeline.condensed(found, max(step, seconds // 24))


def fill(file: Path, names: list[str]) -> None:
    """Write all samples that are kept, as `Samples.add` would have."""
    with sqlite3.connect(file) as db:
        for step, kept in SERIES:
            data = [msgspec.msgpack.encode(sample(step)) for _ in range(100)]
            db.executemany(
                "INSERT INTO samples (app, step, at, data) VALUES (?, ?, ?, ?)",
                ((name, step, END - kept + n * step, random.choice(data))  # noqa: S311
                 for name in names for n in range(kept // step)),
            )  # fmt: skip
    db.close()


def sample(seconds: int) -> Sample:
    """The numbers of a busy app."""
    ranges = [random.randrange(40 * seconds) for _ in range(RANGES)]  # noqa: S311
    good = sum(ranges)
    return Sample(
        seconds=seconds, up=seconds, classes=[0, good, good // 20, good // 50, good // 1000],
        ranges=ranges, cpu=seconds / 3, memory=250_000_000, node_memory=180_000_000,
        processes=1200, run_queue=2, messages=7,
    )  # fmt: skip


def measured(name: str, run: Callable[[], object]) -> None:
    """Print how long a run takes: the median of five."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    print(f"{1000 * sorted(took)[2]:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
