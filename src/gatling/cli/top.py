"""`gatling top`: a live view in a terminal, drawn with curses of the standard library."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

import click

from gatling.cli import top_screen
from gatling.cli.common import app_argument, reading
from gatling.errors import InvalidInput

if TYPE_CHECKING:
    import curses
    from collections.abc import Callable

    from gatling.cli.top_screen import Sort, View
    from gatling.operations.stats import AppStats

ROWS = 30
SECONDS = 60.0
"""The window of requests."""
SORTS: dict[str, Sort] = {"m": "memory", "r": "reductions", "n": "messages"}


@click.command("top")
@app_argument
@click.option(
    "--interval", default=2.0, show_default=True, type=click.FloatRange(0.5, 60),
    help="Seconds between two samples.",
)  # fmt: skip
def top_command(app: str, interval: float) -> None:
    """Watch APP in a terminal: processes, memory, run queues, requests, ETS tables, queries.

    Keys: tab changes the view, m, r and n sort processes by memory, reductions and messages,
    i shows the next instance of an app on a cluster, space pauses, q ends.

    \b
    Examples:
      gatling top shop
      gatling top shop --interval 5
    """
    from gatling.operations import stats

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidInput(
            "`gatling top` needs a terminal.",
            hint=f"Over SSH add ssh's option -t. Programs read `gatling stats {app} --json`.",
        )
    with reading(app, clusters=True) as gatling:
        watch(lambda: stats.of_app(gatling, app, time.time() - SECONDS, rows=ROWS), interval)


def watch(measure: Callable[[], AppStats], interval: float) -> None:
    """Draw samples until somebody ends it. Raises InvalidInput for an unknown terminal."""
    import curses
    import locale

    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:  # a variable that the client sent names none of here
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    try:
        curses.setupterm()
    except curses.error:
        raise InvalidInput(
            "This terminal's type ($TERM) is not known here.", hint="For example TERM=xterm."
        ) from None
    with contextlib.suppress(KeyboardInterrupt):
        curses.wrapper(lambda screen: _Top(screen, measure, interval).run())


class _Top:
    """The state of the view."""

    def __init__(
        self, screen: curses.window, measure: Callable[[], AppStats], interval: float
    ) -> None:
        self._screen, self._measure, self._interval = screen, measure, interval
        self._view: View = "processes"
        self._sort: Sort = "memory"
        self._paused = False
        self._instance = 0
        self._now, self._at = measure(), time.monotonic()
        self._before: AppStats | None = None
        self._seconds = 0.0

    def run(self) -> None:
        """Draw, wait for a key or for the next sample, and again until `q`."""
        import curses

        with contextlib.suppress(curses.error):  # a terminal that cannot hide it
            curses.curs_set(0)
        curses.use_default_colors()
        self._draw()
        while self._takes_key():
            if not self._paused and time.monotonic() - self._at >= self._interval:
                self._before, before = self._now, self._at
                self._now, self._at = self._measure(), time.monotonic()
                self._seconds = self._at - before
            self._draw()

    def _takes_key(self) -> bool:
        """Wait for a key until the next sample is due; False when it ends the view."""
        left = self._interval - (time.monotonic() - self._at)
        self._screen.timeout(int(1000 * (self._interval if self._paused else max(0.0, left))))
        code = self._screen.getch()
        key = chr(code) if 0 <= code < 128 else ""
        if key == "q":
            return False
        if key == "\t":
            every = top_screen.VIEWS
            self._view = every[(every.index(self._view) + 1) % len(every)]
        elif key == "i":
            self._instance += 1
        elif key == " ":
            self._paused = not self._paused
        elif key in SORTS:
            self._view, self._sort = "processes", SORTS[key]
        return True

    def _draw(self) -> None:
        import curses

        height, width = self._screen.getmaxyx()
        now, before = top_screen.chosen(self._now, self._before, self._instance)
        shown = top_screen.Shown(now, before, self._seconds, self._view, self._sort, self._paused)
        styles = {"": curses.A_NORMAL, "bold": curses.A_BOLD, "dim": curses.A_DIM,
                  "warning": curses.A_BOLD | curses.A_REVERSE}  # fmt: skip
        self._screen.erase()
        for at, line in enumerate(top_screen.lines(shown, width - 1, height)):
            with contextlib.suppress(curses.error):  # the window has become smaller
                self._screen.addstr(at, 0, line.text, styles[line.style])
        self._screen.refresh()
