"""`gatling watch …`: the numbers of all apps over time, and alerts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, opened, reading
from gatling.cli.groups import Group
from gatling.cli.visitor import is_shown
from gatling.ui.output import ago, echo, print_json, size, table

if TYPE_CHECKING:
    from gatling.operations.timeline import Point


@click.group("watch", cls=Group)
def watch_command() -> None:
    """Keep the numbers of all apps over time, and notify of those out of range.

    Samples are taken every ten seconds. Those of ten seconds are kept for two hours, of a minute
    for two days, of ten minutes for 30 days. Nothing else depends on them.

    \b
    Examples:
      gatling watch on
      gatling watch show shop --since 2d
    """


@watch_command.command("on")
def on_command() -> None:
    """Take samples of all apps from now on, also after a boot.

    \b
    Example:
      gatling watch on
    """
    from gatling.operations import timeline

    with opened() as gatling:
        timeline.switch(gatling, on=True)
    echo("All apps are sampled every ten seconds.")
    echo("`gatling watch show APP` shows the numbers, `gatling notify add` sends alerts.")


@watch_command.command("off")
def off_command() -> None:
    """Take samples no more. Those that were taken stay for their time.

    \b
    Example:
      gatling watch off
    """
    from gatling.operations import timeline

    with opened() as gatling:
        timeline.switch(gatling, on=False)
    echo("Apps are sampled no more.")


@watch_command.command("show")
@app_argument
@click.option(
    "--since", metavar="TIME", default="2h", show_default=True,
    help="Begin then: 30m, 2h, 7d, or a time such as 2026-01-31T12:00.",
)  # fmt: skip
@as_json
def show_command(app: str, since: str, as_json: bool) -> None:
    """Show the numbers of APP over time, and deployments, restarts, jobs and alerts in between.

    \b
    Examples:
      gatling watch show shop
      gatling watch show shop --since 7d
      gatling watch show shop --json
    """
    from gatling.operations import timeline
    from gatling.platform import logs

    begin = datetime.fromisoformat(logs.parse_since(since)).timestamp()
    with reading(app, clusters=True) as gatling:
        found = timeline.of_app(gatling, app, begin)
        on = timeline.is_on(gatling)
    if as_json:
        print_json(found)
        return
    if not found.points:
        hint = "" if on else " `gatling watch on` takes samples from then on."
        echo(f"No numbers of {app} since {found.since}.{hint}")
    else:
        table(
            ("from", "req/s", "failed", "p50", "p95", "CPU", "memory", "waiting", "messages"),
            [_row(each) for each in found.points],
            drop=("messages", "waiting", "p50"),
        )
    if found.marks:
        echo("")
        table(("at", "what", ""), [(one.at, one.kind, one.text) for one in found.marks], cut=("",))


def _row(each: Point) -> tuple[object, ...]:
    return (
        each.at,
        f"{each.per_second:.3g}",
        each.failed or "",
        _milliseconds(each.p50_ms),
        _milliseconds(each.p95_ms),
        f"{each.cpu:.0f}%",
        size(each.memory) if each.memory else "",
        "" if each.run_queue is None else each.run_queue,
        "" if each.messages is None else each.messages,
    )


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} ms"


@watch_command.command("status")
@as_json
def status_command(as_json: bool) -> None:
    """Show whether samples are taken, and the alerts that are on.

    \b
    Example:
      gatling watch status
    """
    from gatling.operations import timeline
    from gatling.state import apps

    with opened() as gatling:
        shown = [one.name for one in apps.every(gatling.db, clusters=True) if is_shown(one.name)]
        found = timeline.status(gatling, shown)
    if as_json:
        print_json(found)
        return
    if not found.on:
        echo("The watch is off. `gatling watch on` samples all apps every ten seconds.")
    elif found.working and found.sampled_at is not None:
        echo(f"The watch is on: the last sample is from {ago(found.sampled_at)}.")
    else:
        last = f"since {ago(found.sampled_at)}" if found.sampled_at else "yet"
        echo(f"The watch is on, but there are no samples {last}.")
    if found.alerts:
        table(
            ("app", "alert", "since", ""),
            [(one.app, one.rule, ago(one.since), one.text) for one in found.alerts],
            cut=("",),
        )  # fmt: skip
    elif found.on:
        echo("No alert is on.")


@watch_command.command("run", hidden=True)
def run_command() -> None:
    """Sample all apps until it is stopped. Gatling runs this by itself.

    \b
    Example:
      gatling watch run
    """
    from gatling.operations import sampling

    with opened() as gatling:
        sampling.run(gatling)
