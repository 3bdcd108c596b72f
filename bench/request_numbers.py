"""Measure what it costs to count requests from nginx's log.

    python bench/request_numbers.py [--lines 1000000]

writes a log with two requests of one app to one of another, a thousand a second, and reads it: all
of it, five minutes of it, and what one scrape finds new.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gatling.proxy import request_log, request_totals

if TYPE_CHECKING:
    from collections.abc import Callable

BEGIN = 1_700_000_000
PER_SECOND = 1000


def main() -> None:
    """Measure once, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    lines = parser.parse_args().lines
    end = BEGIN + lines / PER_SECOND
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "requests.log"
        write(log, lines)
        whole = log.stat().st_size
        print(f"{lines} lines, {whole / 1e6:.1f} MB")
        for name, since, app in (
            ("all of it, all apps", BEGIN, None),
            ("all of it, one app", BEGIN, "shop"),
            ("the last five minutes, one app", end - 300, "shop"),
            ("the last minute, all apps", end - 60, None),
        ):
            measured(name, partial(request_log.read, log, since, end, app=app, limit=whole))
        kept = Path(directory) / "totals.json"
        request_totals.update(log, kept, limit=1)
        with log.open("a") as file:
            file.writelines(line(end + n / PER_SECOND, "shop") for n in range(15 * PER_SECOND))
        measured("a scrape after 15 s", partial(request_totals.update, log, kept))


def measured(name: str, run: Callable[[], object]) -> None:
    """Print the processor time of a run."""
    began = time.process_time()
    run()
    print(f"{time.process_time() - began:7.3f} s  {name}")


def write(log: Path, lines: int) -> None:
    """Write the log, with latencies as an app has them."""
    with log.open("w") as file:
        file.writelines(
            line(BEGIN + n / PER_SECOND, "blog" if n % 3 == 0 else "shop") for n in range(lines)
        )


def line(at: float, app: str) -> str:
    """One request."""
    ms = int(random.expovariate(1 / 20))
    status = random.choice((200, 200, 200, 200, 302, 404, 500))  # noqa: S311
    return f"{at:.3f} {app} 20210 {status} {(ms + 1) / 1000:.3f} {ms / 1000:.3f}\n"


if __name__ == "__main__":
    main()
