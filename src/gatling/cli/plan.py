"""`gatling plan`: what a deployment would do, and why."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from gatling.cli.common import app_argument, as_json, reading, release_argument, strategy_option
from gatling.text import counted
from gatling.ui.output import echo, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.deploy.migrations import linter
    from gatling.deploy.plan.by_files import Glance
    from gatling.deploy.plan.plan import Plan
    from gatling.platform.open import Gatling
    from gatling.state.releases import Release


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
    and its start/2 up to the supervisor. Deployments of APP wait for this command.

    \b
    Examples:
      gatling plan shop v7
      gatling plan shop v7 --json
      gatling plan shop v7 --files
    """
    from gatling.deploy.plan import explain
    from gatling.project import source
    from gatling.state import apps

    with reading(app) as gatling:
        apps.get(gatling.db, app)
        number = release_argument(what) if what is not None else None
        commit = None
        if what is not None and number is None:
            commit = source.resolve(gatling.home.app(app).repository, what)
        target = explain.target(gatling, app, number, commit)
        if files_only or os.environ.get("GATLING_ROLE") == "reader":
            shown = _at_a_glance(gatling, app, target, strategy)
        else:
            with explain.undisturbed(gatling, app):
                shown = _in_full(gatling, app, target, strategy)
    if as_json:
        print_json(shown.json())
    elif what is None and shown.live is not None and shown.live.number == target.number:
        echo(f"{target.label} is live and the newest; `gatling restart {app}` starts it again.")
    else:
        shown.show()


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan, with the migrations that come with it."""

    live: Release | None
    target: Release
    decided: Plan | None
    """None where only the running node could tell."""
    migrations: dict[str, list[linter.Danger]]
    unknown: tuple[str, ...] = ()
    """What was not found out, and why."""
    glance: Glance | None = None

    def json(self) -> dict[str, Any]:
        """For programs."""
        found = {
            "live": self.live.label if self.live else None,
            "target": self.target.label,
            "strategy": self.decided.strategy if self.decided else None,
            "reasons": list(self.decided.reasons) if self.decided else [],
            "second_instance": list(self.decided.alone) if self.decided else [],
            "unknown": list(self.unknown),
            **(self.decided.details if self.decided else {}),
        }
        if self.glance is not None:
            found |= asdict(self.glance)
        described = [
            {"file": name, "warnings": [asdict(danger) for danger in found_]}
            for name, found_ in self.migrations.items()
        ]
        return found | {"migrations": described}

    def show(self) -> None:
        """For people."""
        from gatling.deploy.migrations import linter

        come_from = f"{self.live.label} → " if self.live else ""
        strategy = self.decided.strategy if self.decided else "hot, rolling or restart"
        echo(f"{come_from}{self.target.label}: {strategy}", style="bold")
        for reason in self.decided.reasons if self.decided else ():
            echo(f"  {reason}")
        if self.decided is not None:
            _show(self.decided)
        if self.glance is not None:
            _show_files(self.glance)
        if self.migrations:
            echo("migrations:", style="dim")
        for name, found in self.migrations.items():
            echo(f"  {name}")
            for danger in found:
                echo(f"    {danger.text}")
        if any(self.migrations.values()):
            echo(f"  {linter.ADVICE}")
        for what in self.unknown:
            echo(what)


def _in_full(gatling: Gatling, name: str, target: Release, strategy: str | None) -> Shown:
    from gatling.deploy.plan import explain

    known, decided = explain.planned(gatling, name, target, strategy)
    found, unknown = _dangers(gatling, name, known.live, target, decided.migrations)
    return Shown(known.live, target, decided, found, (unknown,) if unknown else ())


def _at_a_glance(gatling: Gatling, name: str, target: Release, strategy: str | None) -> Shown:
    from gatling.deploy.plan import explain

    known, decided, seen = explain.at_a_glance(gatling, name, target, strategy)
    unknown = ["Only files and records were compared. The running node was not queried."]
    if decided is not None and decided.strategy == "rolling":
        unknown.append(
            "The deployment will be a restart if the node has data open that a second node must"
            " not open."
        )
    if known.migrations:
        unknown.append(
            "The migrations were not checked for changes that could break the live release."
        )
    migrations: dict[str, list[linter.Danger]] = {file: [] for file in known.migrations}
    return Shown(known.live, target, decided, migrations, tuple(unknown), seen)


def _dangers(
    gatling: Gatling, name: str, live: Release | None, target: Release, new: Sequence[str]
) -> tuple[dict[str, list[linter.Danger]], str]:
    """What the migrations endanger, or why that is not known."""
    from gatling.deploy.migrations import runner
    from gatling.errors import CommandFailed, NotFound
    from gatling.state import apps

    found: dict[str, list[linter.Danger]] = {name: [] for name in new}
    around, app = gatling.apps.surroundings(name), apps.get(gatling.db, name)
    try:
        return runner.looked_through(gatling.tasks, around, app, live, target, new), ""
    except (CommandFailed, NotFound) as error:
        return found, f"The migrations could not be checked: {error.what}"


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
