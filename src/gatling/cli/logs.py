"""`gatling logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, reading
from gatling.errors import InvalidInput
from gatling.ui.output import echo, echo_exactly

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.engine import Engine


@click.command("logs")
@app_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("-n", "--lines", default=100, show_default=True, type=click.IntRange(0, 1_000_000))
@click.option("--since", metavar="TIME", help="15m, 2h, 1d, or a time such as 2026-01-31T12:00.")
@click.option("--release", metavar="RELEASE", help="Only lines of this release, such as v7.")
@click.option(
    "--process",
    metavar="NAME",
    help="Only lines of this process, such as worker or worker.1; web is the app itself,"
    " boot-check its second instances that never served.",
)
@click.option("--build", is_flag=True, help="The output of the last deployment instead.")
@click.option("--job", metavar="NAME", help="What the runs of this job printed instead.")
@click.option("--raw", is_flag=True, help="Print control characters and colours as they are.")
def logs_command(
    app: str,
    follow: bool,
    lines: int,
    since: str | None,
    release: str | None,
    process: str | None,
    build: bool,
    job: str | None,
    raw: bool,
) -> None:
    """Show what the instances and processes of APP printed, with time and release.

    \b
    Examples:
      gatling logs shop -f
      gatling logs shop --since 15m --release v7
      gatling logs shop --process worker
      gatling logs shop --build
      gatling logs shop --job report -f
    """
    from gatling import logs
    from gatling.project import names
    from gatling.state import apps, deployments

    number = names.release_number(release) if release is not None else None
    if release is not None and number is None:
        raise InvalidInput(f"{release!r} is not a release.", hint="For example v7.")
    wanted = logs.Wanted(f"v{number}" if number else None, process)
    with reading(app) as engine:
        paths = engine.home.app(apps.get(engine.db, app).name)
        file = _job_log(engine, app, job) if job is not None else None
        last = next(iter(deployments.of_app(engine.db, app, limit=1)), None) if build else None
    if build:
        log = paths.deployment_log(last.id) if last else None
        text = log.read_text(errors="replace") if log and log.exists() else ""
        echo(*(text.splitlines()[-lines:] if lines else []))
        return
    show = echo_exactly if raw else echo
    start = logs.parse_since(since) if since else None
    if file is not None:
        found = logs.read(file, lines=lines, since=start, wanted=wanted)
    else:
        found = engine.supervisor.log(app, lines=lines, since=start, wanted=wanted)
    for line in found:
        show(str(line))
    if follow:
        logs.end_with_reader(1)
        if file is not None:
            coming = logs.follow(file, wanted=wanted)
        else:
            coming = engine.supervisor.follow_log(app, wanted=wanted)
        for line in coming:
            show(str(line))


def _job_log(engine: Engine, app: str, job: str) -> Path:
    from gatling.deploy import jobs

    return engine.home.app(app).job_log(jobs.known(engine, app, job))
