"""`gatling releases`, `gatling deployments`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gatling.cli.common import app_argument, as_json, reading
from gatling.errors import Exit, NotFound
from gatling.ui.output import ago, duration, echo, echo_text, print_json, size, table

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.deployments import Deployment


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
    from gatling.project.history import commits
    from gatling.state import apps, deployments, releases

    number = history.number_of(release) if release is not None else None
    with reading(app) as gatling:
        if number is not None:
            history.show_release(gatling, app, number, as_json=as_json)
            return
        live = apps.get(gatling.db, app).live_release
        every = releases.every(gatling.db, app)
        written = commits(gatling.home.app(app).repository, [each.commit for each in every])
        proven = deployments.ever_live(gatling.db, app)
    if as_json:
        print_json(
            [
                {
                    "release": r.label,
                    "commit": r.commit,
                    "author": wrote.author if (wrote := written.get(r.commit)) else None,
                    "subject": wrote.subject if wrote else None,
                    "version": r.version,
                    "created_at": r.created_at,
                    "live": r.number == live,
                    "kept": r.removed_at is None,
                    "ever_live": r.number in proven,
                    "origin": r.origin,
                    "base": f"v{r.base}" if r.base else None,
                    "elixir": r.elixir,
                    "otp": r.otp,
                    "bytes": r.bytes,
                }
                for r in every
            ]
        )
        return
    if not every:
        echo(f"{app} has no release yet.")
        return
    table(
        ("release", "version", "commit", "subject", "by", "created", "size", "state"),
        [
            (
                r.label,
                r.version,
                r.commit[:9],
                wrote.subject if (wrote := written.get(r.commit)) else None,
                wrote.author if wrote else None,
                ago(r.created_at),
                size(r.bytes),
                "live" if r.number == live
                else "not retained" if r.removed_at
                else "never live" if r.number not in proven
                else f"config of v{r.base}" if r.origin == "config" else "",
            )
            for r in every
        ],
        cut=("subject", "by", "state"),
        drop=("by", "version", "size", "subject"),
    )  # fmt: skip


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
    from gatling.state import apps, deployments

    with reading(app) as gatling:
        apps.get(gatling.db, app)
        if follow:
            context.exit(_follow(gatling, app, ident))
        if ident is None:
            found = deployments.of_app(gatling.db, app)
            log = None
        else:
            found = [deployments.get(gatling.db, ident, app)]
            log = gatling.home.app(app).deployment_log(ident)
    if as_json:
        described = [describe(d) for d in found]
        print_json(described if ident is None else described[0])
    elif ident is not None:
        _show(found[0], log.read_text(errors="replace") if log and log.exists() else None)
    elif not found:
        echo(f"{app} has no deployment yet.")
    else:
        table(
            ("id", "cause", "release", "strategy", "outcome", "when", "took", "failed requests"),
            [_row(d) for d in found],
            cut=("cause",),
            drop=("failed requests", "strategy", "took"),
        )


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


def describe(deployment: Deployment) -> dict[str, Any]:
    """A deployment as JSON."""
    return {
        "id": deployment.id,
        "release": f"v{deployment.release}" if deployment.release else None,
        "previous": f"v{deployment.previous}" if deployment.previous else None,
        "commit": deployment.commit,
        "cause": deployment.cause,
        "actor": deployment.actor,
        "strategy": deployment.strategy,
        "reasons": list(deployment.reasons),
        "outcome": deployment.outcome,
        "error": deployment.error,
        "started_at": deployment.started_at,
        "seconds": deployment.seconds,
        "steps": [
            {"name": s.name, "seconds": s.seconds, "outcome": s.outcome} for s in deployment.steps
        ],
        "probe": deployment.probe,
        "suspended_ms": deployment.suspended_ms,
    }


def _row(deployment: Deployment) -> tuple[object, ...]:
    probe = deployment.probe
    return (
        deployment.id,
        deployment.cause,
        f"v{deployment.release}" if deployment.release else None,
        deployment.strategy,
        deployment.outcome,
        ago(deployment.started_at),
        duration(deployment.seconds) if deployment.seconds else None,
        f"{probe['failed']} of {probe['requests']}" if probe else None,
    )


def _show(deployment: Deployment, log: str | None) -> None:
    head = f"Deployment {deployment.id} of {deployment.app}: {deployment.outcome}"
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
