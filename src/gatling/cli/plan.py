"""`gatling plan`: what a deployment would do, and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from gatling.cli.common import app_argument, as_json, reading, release_argument, strategy_option
from gatling.ui.output import echo, print_json
from gatling.words import counted

if TYPE_CHECKING:
    from gatling.deploy import dangers
    from gatling.deploy.plan import Plan
    from gatling.engine import Engine
    from gatling.state.releases import Release


@click.command("plan")
@app_argument
@click.argument("what", metavar="[RELEASE|COMMIT]", required=False)
@strategy_option
@as_json
def plan_command(app: str, what: str | None, strategy: str | None, as_json: bool) -> None:
    """Show how a kept release would replace the live one: hot, rolling or restart, and why.

    Without RELEASE: the newest kept one. Nothing of the app is started or changed.

    \b
    Examples:
      gatling plan shop v7
      gatling plan shop v7 --json
    """
    from gatling.deploy import dangers, migrations, planning
    from gatling.project import source
    from gatling.state import apps

    with reading(app) as engine:
        apps.get(engine.db, app)
        number = release_argument(what) if what is not None else None
        commit = None
        if what is not None and number is None:
            commit = source.resolve(engine.home.app(app).repository, what)
        target = planning.target(engine, app, number, commit)
        live, decided = planning.planned(engine, app, target, strategy)
        paths = engine.home.app(app)
        forward = live is None or target.number > live.number
        new = migrations.pending(paths, live, target) if forward else []
        found, unknown = _dangers(engine, app, live, target, new)
    if as_json:
        described = [{"file": n, "warnings": [asdict(d) for d in found[n]]} for n in new]
        print_json(describe(live, target, decided) | {"migrations": described})
        return
    _show(live, target, decided)
    if new:
        echo("migrations:", style="dim")
    for name in new:
        echo(f"  {name}")
        for danger in found[name]:
            echo(f"    {danger.text}")
    if unknown:
        echo(f"  {unknown}")
    if any(found.values()):
        echo(f"  {dangers.ADVICE}")


def _dangers(
    engine: Engine, name: str, live: Release | None, target: Release, new: list[str]
) -> tuple[dict[str, list[dangers.Danger]], str]:
    """What the migrations endanger, or why that is not known."""
    from gatling.deploy import migrations
    from gatling.errors import CommandFailed, NotFound
    from gatling.state import apps

    found: dict[str, list[dangers.Danger]] = {name: [] for name in new}
    paths, app = engine.home.app(name), apps.get(engine.db, name)
    try:
        return migrations.looked_through(engine.tasks, paths, app, live, target, new), ""
    except (CommandFailed, NotFound) as error:
        return found, f"They could not be looked through: {error.what}"


def describe(live: Release | None, target: Release, decided: Plan) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "live": live.label if live else None,
        "target": target.label,
        "strategy": decided.strategy,
        "reasons": list(decided.reasons),
        "second_instance": list(decided.alone),
        **decided.details,
    }


def _show(live: Release | None, target: Release, decided: Plan) -> None:
    come_from = f"{live.label} → " if live else ""
    echo(f"{come_from}{target.label}: {decided.strategy}", style="bold")
    for reason in decided.reasons:
        echo(f"  {reason}")
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
