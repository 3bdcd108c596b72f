"""`gatling releases`, `gatling deployments`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, reading
from gatling.errors import Exit, NotFound
from gatling.ui.output import ago, duration, echo, echo_text, print_json, size, table

if TYPE_CHECKING:
    from gatling.operations.deployments import DeploymentEntry
    from gatling.operations.releases import ReleaseEntry
    from gatling.platform.open import Gatling


@click.command("releases")
@app_argument
@click.argument("release", metavar="[RELEASE]", required=False)
@as_json
def releases_command(app: str, release: str | None, as_json: bool) -> None:
    """List all releases of APP, newest first, or show what one release brought.

    The list includes releases that are no longer retained.

    \b
    Examples:
      gatling releases shop
      gatling releases shop v2
    """
    from gatling.cli import history
    from gatling.operations import releases as operations

    number = history.number_of(release) if release is not None else None
    with reading(app, clusters=True) as gatling:
        if number is not None:
            history.show_release(gatling, app, number, as_json=as_json)
            return
        every = operations.every(gatling, app)
    if as_json:
        print_json(every)
    elif not every:
        echo(f"{app} has no release yet.")
    else:
        table(
            ("release", "version", "commit", "subject", "by", "created", "size", "state"),
            [_release(r) for r in every],
            cut=("subject", "by", "state"),
            drop=("by", "version", "size", "subject"),
        )


def _release(found: ReleaseEntry) -> tuple[object, ...]:
    return (found.release, found.version, found.commit[:9], found.subject, found.author,
            ago(found.created_at), size(found.bytes), _remark(found))  # fmt: skip


def _remark(release: ReleaseEntry) -> str:
    if release.live:
        return "live"
    if not release.kept:
        return "not retained"
    if not release.ever_live:
        return "never live"
    return f"config of {release.base}" if release.origin == "config" else ""


@click.command("deployments")
@app_argument
@click.argument("ident", metavar="[ID]", type=int, required=False)
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Follow the deployment in progress (or ID) to its end, and exit with its outcome.",
)
@as_json
@click.pass_context
def deployments_command(
    context: click.Context, app: str, ident: int | None, follow: bool, as_json: bool
) -> None:
    """List the deployments of APP, or show one with its steps, probe report and output.

    \b
    Examples:
      gatling deployments shop
      gatling deployments shop 12
      gatling deployments shop --follow
    """
    from gatling.operations import deployments

    with reading(app, clusters=True) as gatling:
        if follow:
            context.exit(_follow(gatling, app, ident))
        if ident is not None:
            one = deployments.get(gatling, app, ident)
            _show(app, one, deployments.output(gatling, app, ident), as_json=as_json)
            return
        found = deployments.every(gatling, app)
    if as_json:
        print_json(found)
    elif not found:
        echo(f"{app} has no deployment yet.")
    else:
        table(
            ("id", "cause", "release", "commit", "by", "strategy", "outcome", "when", "took",
             "failed requests"),
            [_row(d) for d in found],
            cut=("cause", "by"),
            drop=("failed requests", "strategy", "took", "commit", "by"),
        )  # fmt: skip


def _follow(gatling: Gatling, app: str, ident: int | None) -> int:
    from gatling.deploy import deployment_log as following
    from gatling.platform import logs
    from gatling.state import deployments

    running = deployments.running(gatling.db, app)
    if ident is None and not running:
        raise NotFound(
            f"No deployment of {app} is under way.", hint=f"`gatling deployments {app}` lists all."
        )
    logs.end_with_reader(1)
    number = ident if ident is not None else running[-1].id
    ended = following.follow(gatling, app, number, echo_text)
    echo(f"Deployment {ended.id} of {app}: {ended.outcome}")
    return int(Exit.OK if ended.outcome == "succeeded" else Exit.FAILURE)


def _row(deployment: DeploymentEntry) -> tuple[object, ...]:
    probe = deployment.probe
    return (
        deployment.id,
        deployment.cause,
        deployment.release,
        deployment.commit and deployment.commit[:9],
        deployment.actor,
        deployment.strategy,
        deployment.outcome,
        ago(deployment.started_at),
        duration(deployment.seconds) if deployment.seconds else None,
        f"{probe['failed']} of {probe['requests']}" if probe else None,
    )


def _show(app: str, deployment: DeploymentEntry, log: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json(deployment)
        return
    head = f"Deployment {deployment.id} of {app}: {deployment.outcome}"
    echo(head, style="bold")
    echo(f"{deployment.cause} by {deployment.actor}, {ago(deployment.started_at)}")
    if deployment.error:
        echo(*deployment.error.splitlines())
    for reason in deployment.reasons:
        echo(f"  {reason}")
    for step in deployment.steps:
        took = duration(step.seconds) if step.seconds is not None else ""
        echo(f"  {step.name:<16} {step.outcome:<11} {took}")
    if log is None:
        echo("", "Its output is no longer retained.", style="dim")
    elif log:
        echo("", "Output:", style="dim")
        echo_text(log)
