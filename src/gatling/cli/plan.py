"""`gatling plan`: what a deployment would do, and why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from gatling.cli.common import app_argument, as_json, reading, release_argument, strategy_option
from gatling.text import counted
from gatling.ui.output import echo, print_json

if TYPE_CHECKING:
    from gatling.deploy.plan.by_files import Glance
    from gatling.deploy.plan.plan import Plan
    from gatling.operations.plans import Proposal


@click.command("plan")
@app_argument
@click.argument("what", metavar="[RELEASE|COMMIT]", required=False)
@strategy_option
@click.option(
    "--files",
    "files_only",
    is_flag=True,
    help="Compare only files and records, and start nothing. A reader's key is limited to this.",
)
@as_json
def plan_command(
    app: str, what: str | None, strategy: str | None, files_only: bool, as_json: bool
) -> None:
    """Show how a release would replace the live one (hot, rolling or restart), and why.

    The default is the newest retained release. Nothing is changed. If the files do not say enough,
    Gatling asks the live node, and starts a throw-away node of each release, which runs its config
    and its start/2 up to the supervisor. Deployments of APP wait for this command. For an app on a
    cluster, the files that differ are sent to its pods, and the nodes there are asked.

    \b
    Examples:
      gatling plan shop v7
      gatling plan shop v7 --json
      gatling plan shop v7 --files
    """
    from gatling.deploy.plan import explain
    from gatling.operations import plans
    from gatling.project import source
    from gatling.state import apps

    with reading(app, clusters=True) as gatling:
        apps.get(gatling.db, app)
        number = release_argument(what) if what is not None else None
        commit = None
        if what is not None and number is None:
            commit = source.resolve(gatling.home.app(app).repository, what)
        target = explain.target(gatling, app, number, commit)
        glance = files_only or os.environ.get("GATLING_ROLE") == "reader"
        found = plans.proposed(gatling, app, target, strategy, files_only=glance)
    if as_json:
        print_json(found.result)
    elif what is None and found.live is not None and found.live.number == target.number:
        echo(f"{target.label} is live and the newest; `gatling restart {app}` starts it again.")
    else:
        _print(found)


def _print(plan: Proposal) -> None:
    from gatling.deploy.migrations import linter

    come_from = f"{plan.live.label} → " if plan.live else ""
    strategy = plan.decided.strategy if plan.decided else "hot, rolling or restart"
    echo(f"{come_from}{plan.target.label}: {strategy}", style="bold")
    for reason in plan.decided.reasons if plan.decided else ():
        echo(f"  {reason}")
    if plan.decided is not None:
        _show(plan.decided)
    if plan.glance is not None:
        _show_files(plan.glance)
    if plan.migrations:
        echo("migrations:", style="dim")
    for name, found in plan.migrations.items():
        echo(f"  {name}")
        for danger in found:
            echo(f"    {danger.text}")
    if any(plan.migrations.values()):
        echo(f"  {linter.ADVICE}")
    for what in (*plan.unknown, *plan.notes):
        echo(what)


def _show_files(seen: Glance) -> None:
    for line in seen.summary():
        echo(f"  {line}")
    for title in ("changed", "added", "removed"):
        modules: tuple[Any, ...] = getattr(seen, title)
        if modules:
            echo(f"modules {title}:", style="dim")
        for module in modules:
            echo(f"  {module.app}  {module.module}")


def _show(decided: Plan) -> None:
    if decided.strategy == "hot" and decided.alone:
        echo(f"  no boot check: {'; '.join(decided.alone)}")
    for key, title in (("changed", "changed"), ("added", "added"), ("removed", "removed")):
        modules = decided.details.get(key, [])
        if modules:
            echo(f"modules {title}:", style="dim")
        for module in modules:
            echo(f"  {module['app'] or '–'}  {module['module']}")
    rows = [
        *[
            f"{counted(p['count'], 'process')} of {p['module']} to convert"
            for p in _of(decided, "processes")
        ],
        *[f"{a} is started" for a in _of(decided, "applications_started")],
        *[
            f"{' / '.join([c['app'], *c['supervisor']])} {word} {', '.join(c[word_key])}"
            for c in _of(decided, "children")
            for word, word_key in (("starts", "start"), ("stops", "stop"))
            if c[word_key]
        ],
        *[f"config {c['app']} {c['key']}: {c['effect']}" for c in _of(decided, "config")],
        *[f"{v['app']} {v['from']} → {v['to']}" for v in _of(decided, "versions")],
        *[f"files in priv of {a} change" for a in _of(decided, "assets")],
    ]
    if rows:
        echo("besides:", style="dim")
    for row in rows:
        echo(f"  {row}")


def _of(decided: Plan, key: str) -> list[Any]:
    found: list[Any] = decided.details.get(key, [])
    return found
