"""`gatling logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gatling.cli.common import app_argument, reading
from gatling.errors import InvalidInput, NotFound
from gatling.ui.output import echo, echo_exactly

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gatling.operations.cluster_logs import Logs as ClusterLogs
    from gatling.platform.interface import Logs
    from gatling.platform.logs import Line
    from gatling.platform.open import Gatling
    from gatling.state.apps import App


@click.command("logs")
@app_argument
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines.")
@click.option("-t", "--tail", "follow", is_flag=True, hidden=True, help="As --follow.")
@click.option("-n", "--lines", default=100, show_default=True, type=click.IntRange(0, 1_000_000))
@click.option("--num", "lines", hidden=True, type=click.IntRange(0, 1_000_000), help="As --lines.")
@click.option("--since", metavar="TIME", help="15m, 2h, 1d, or a time such as 2026-01-31T12:00.")
@click.option("--release", metavar="RELEASE", help="Show only lines of this release, such as v7.")
@click.option(
    "--process",
    metavar="NAME",
    help="Show only this worker (worker or worker.1), the app itself (web), or instances that only"
    " checked a boot (boot-check).",
)
@click.option("--build", is_flag=True, help="Show the output of the last deployment.")
@click.option("--job", metavar="NAME", help="Show the output of this job's runs.")
@click.option("--raw", is_flag=True, help="Print control characters and colours unchanged.")
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
    """Show the output of APP's instances and workers, with time and release.

    \b
    Examples:
      gatling logs shop -f
      gatling logs shop --since 15m --release v7
      gatling logs shop --process worker
      gatling logs shop --build
      gatling logs shop --job report -f
    """
    from gatling import names
    from gatling.platform import logs
    from gatling.state import apps, deployments, releases

    number = names.release_number(release) if release is not None else None
    if release is not None and number is None:
        raise InvalidInput(f"{release!r} is not a release.", hint="For example v7.")
    wanted = logs.Wanted(f"v{number}" if number else None, process)
    with reading(app, clusters=True) as gatling:
        found = apps.get(gatling.db, app)
        paths = gatling.home.app(app)
        if number is not None:
            releases.get(gatling.db, app, number)
        file = _job_log(gatling, app, job) if job is not None else None
        last = next(iter(deployments.of_app(gatling.db, app, limit=1)), None) if build else None
        source = _Log(gatling, found, file)
    if build:
        log = paths.deployment_log(last.id) if last else None
        text = log.read_text(errors="replace") if log and log.exists() else ""
        echo(*(text.splitlines()[-lines:] if lines else []))
        return
    if process is not None:
        source.check_process(process)
    start = logs.parse_since(since) if since else None
    if follow:
        logs.end_with_reader(1)
    show = echo_exactly if raw else echo
    for line in source.lines(lines=lines, since=start, wanted=wanted, follow=follow):
        show(str(line))


class _Log:
    """The log of an app, or of a job of it, which is a file."""

    def __init__(self, gatling: Gatling, app: App, file: Path | None) -> None:
        self._app, self._file, self._kept = app, file, _kept(gatling, app)

    def lines(self, *, follow: bool, **which: Any) -> Iterable[Line]:
        from gatling.platform import logs

        if self._file is not None:
            return logs.follow(self._file, **which) if follow else logs.read(self._file, **which)
        take = self._kept.follow if follow else self._kept.read
        return take(self._app.name, **which)

    def check_process(self, process: str) -> None:
        """Raise NotFound for a process that the app does not have and that never printed a line."""
        from gatling.platform import logs
        from gatling.project import settings

        known = {logs.WEB, logs.CHECK, *settings.parse(self._app.effective).processes}
        name = process.partition(".")[0]
        wanted = logs.Wanted(None, process)
        if name in known or self.lines(lines=1, since=None, wanted=wanted, follow=False):
            return
        raise NotFound(
            f"{self._app.name} has no worker {process!r}.",
            hint=f"It has: {', '.join(sorted(known))}.",
        )


def _kept(gatling: Gatling, app: App) -> Logs | ClusterLogs:
    if app.platform is None:
        return gatling.logs
    from gatling.operations import cluster_logs

    return cluster_logs.Logs(gatling, app)


def _job_log(gatling: Gatling, app: str, job: str) -> Path:
    from gatling.runtime import jobs

    return gatling.home.app(app).job_log(jobs.known(gatling, app, job))
