"""The preview of a deployment: the typed result behind `gatling plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct, UnsetType, structs, to_builtins

from gatling.deploy import connections, published
from gatling.deploy.migrations import runner
from gatling.deploy.plan import explain
from gatling.errors import CommandFailed, NotFound
from gatling.project import settings as project_settings
from gatling.state import apps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.deploy.cluster.hot import Planning
    from gatling.deploy.migrations import linter
    from gatling.deploy.plan.by_files import Glance
    from gatling.deploy.plan.plan import Facts, Plan
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release

Described = list[dict[str, Any]] | UnsetType


class PlanResult(Struct, frozen=True, kw_only=True):
    """A plan for programs. A field that was not compared is left out."""

    live: str | None
    target: str
    strategy: str | None
    """None where it depends on the running node."""
    reasons: list[str]
    second_instance: list[str]
    """Why no second instance may run beside the live one."""
    unknown: list[str]
    """The questions that stayed open, with reasons."""
    notes: list[str] = []
    """Settings of the release that this host does not apply, with reasons."""
    changed: Described = UNSET
    """Modules, with their applications; so are the next two."""
    added: Described = UNSET
    removed: Described = UNSET
    boot: list[str] | UnsetType = UNSET
    """Files that differ and are read at boot."""
    waits_for: Described = UNSET
    versions: Described = UNSET
    applications_started: list[str] | UnsetType = UNSET
    processes: Described = UNSET
    """How many processes are converted, by module."""
    children: Described = UNSET
    """The children that supervisors start and stop."""
    config: Described = UNSET
    assets: list[str] | UnsetType = UNSET
    """Applications of which files in priv differ."""
    open_pages: int | UnsetType = UNSET
    """Open LiveViews, which are rendered again after a hot upgrade."""
    erts: bool | UnsetType = UNSET
    """Whether the BEAM itself differs."""
    migrations: list[dict[str, Any]]
    """Files, with warnings of what they endanger."""


class Proposal(Struct, frozen=True):
    """A plan, with the migrations that come with it."""

    live: Release | None
    target: Release
    decided: Plan | None
    """None where it depends on the running node."""
    migrations: dict[str, list[linter.Danger]]
    unknown: tuple[str, ...] = ()
    """The questions that stayed open, with reasons."""
    glance: Glance | None = None
    notes: tuple[str, ...] = ()
    """Settings of the release that this host does not apply, with reasons."""

    @property
    def result(self) -> PlanResult:
        """The same for programs."""
        compared = dict(self.decided.details) if self.decided else {}
        if self.glance is not None:
            compared |= to_builtins(self.glance)
        return PlanResult(
            live=self.live.label if self.live else None,
            target=self.target.label,
            strategy=self.decided.strategy if self.decided else None,
            reasons=list(self.decided.reasons) if self.decided else [],
            second_instance=list(self.decided.alone) if self.decided else [],
            unknown=list(self.unknown),
            notes=list(self.notes),
            **compared,
            migrations=[
                {"file": name, "warnings": [structs.asdict(danger) for danger in found]}
                for name, found in self.migrations.items()
            ],
        )


def proposed(
    gatling: Gatling, app: str, target: Release, strategy: str | None, *, files_only: bool
) -> Proposal:
    """Preview the deployment of a retained release.

    With `files_only` nothing of the app is started or asked. Otherwise deployments of the app wait
    for this; raises Busy, NodeInUse or NodeBusy while another command works on the app.
    """
    notes = _notes(gatling, app, target)
    if files_only:
        return structs.replace(_at_a_glance(gatling, app, target, strategy), notes=notes)
    with explain.undisturbed(gatling, app):
        return structs.replace(_in_full(gatling, app, target, strategy), notes=notes)


def _notes(gatling: Gatling, app: str, target: Release) -> tuple[str, ...]:
    settings = project_settings.parse(target.manifest | apps.get(gatling.db, app).settings)
    found = (
        published.without_http3(gatling, settings),
        connections.too_many(gatling, app, settings),
    )
    return tuple(filter(None, found))


def _in_full(gatling: Gatling, name: str, target: Release, strategy: str | None) -> Proposal:
    app = apps.get(gatling.db, name)
    if app.platform is None:
        known, decided = explain.planned(gatling, name, target, strategy)
    else:
        known = explain.facts(gatling, name, target, strategy)
        decided = _on_cluster(gatling, app, known)
    found, unknown = _dangers(gatling, name, known.live, target, decided.migrations)
    return Proposal(known.live, target, decided, found, (unknown,) if unknown else ())


def _at_a_glance(gatling: Gatling, name: str, target: Release, strategy: str | None) -> Proposal:
    app = apps.get(gatling.db, name)
    if app.platform is None:
        known, decided, seen = explain.at_a_glance(gatling, name, target, strategy)
    else:
        from gatling.deploy.cluster import hot

        known, seen = explain.facts(gatling, name, target, strategy), None
        decided = hot.at_once(_wanted_there(gatling, app, known))
        if known.live is not None and known.live.number != target.number:
            seen = explain.glanced(gatling, name, known.live, target)
    unknown = ["Only files and records were compared. The running node was not queried."]
    if decided is not None and decided.strategy == "rolling" and app.platform is None:
        unknown.append(
            "The deployment will be a restart if the node has data open that a second node must"
            " not open."
        )
    if known.migrations:
        unknown.append(
            "The migrations were not checked for changes that could break the live release."
        )
    migrations: dict[str, list[linter.Danger]] = {file: [] for file in known.migrations}
    return Proposal(known.live, target, decided, migrations, tuple(unknown), seen)


def _on_cluster(gatling: Gatling, app: App, known: Facts) -> Plan:
    """The plan for an app on a cluster, whose nodes are asked.

    Raises NotOnCluster, ClusterFailed, and InvalidInput for a strategy that is not possible.
    """
    from gatling.deploy.cluster import hot  # which loads the client of Kubernetes
    from gatling.platform.kubernetes import place

    wanted = _wanted_there(gatling, app, known)
    with place.opened(gatling.db, app) as api:
        decided = hot.planned(gatling, api, wanted)
    return structs.replace(
        decided, requested=known.requested, migrations=known.migrations, domains=known.domains
    )


def _wanted_there(gatling: Gatling, app: App, known: Facts) -> Planning:
    from gatling.deploy.cluster import hot, objects

    objects.check(gatling, app, known.target)
    return hot.Planning(app, known.settings, known.live, known.target, known.requested)


def _dangers(
    gatling: Gatling, name: str, live: Release | None, target: Release, new: Sequence[str]
) -> tuple[dict[str, list[linter.Danger]], str]:
    """Return the dangers of each migration, and the reason when they are not known."""
    found: dict[str, list[linter.Danger]] = {name: [] for name in new}
    around, app = gatling.apps.surroundings(name), apps.get(gatling.db, name)
    try:
        return runner.looked_through(gatling.tasks, around, app, live, target, new), ""
    except (CommandFailed, NotFound) as error:
        return found, f"The migrations could not be checked: {error.what}"
