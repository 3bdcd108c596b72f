"""The calls behind the routes: operations, with what the command line adds to them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from gatling import names
from gatling.api.contract import Call, Caller, ConfigChange, Domains, SettingsDone, Variable
from gatling.deploy.plan import explain
from gatling.deploy.wish import Wish
from gatling.errors import InvalidInput, NotFound
from gatling.operations import (
    audit,
    certificates,
    config,
    deployments,
    deploys,
    domains,
    https,
    lifecycle,
    maintenance,
    overview,
    plans,
    processes,
    releases,
    rewinding,
    settings,
    stats,
)
from gatling.platform import lock, logs
from gatling.project import template
from gatling.state import apps
from gatling.state import config as variables
from gatling.state import deployments as recorded
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.operations.audit import AuditEntry
    from gatling.operations.certificates import Kept
    from gatling.operations.deployments import DeploymentEntry
    from gatling.operations.domains import DomainChange
    from gatling.operations.https import Https
    from gatling.operations.plans import PlanResult
    from gatling.operations.processes import Process
    from gatling.operations.releases import ReleaseEntry
    from gatling.operations.settings import EffectiveSettings
    from gatling.operations.stats import AppStats
    from gatling.operations.status import AppDetails, AppStatus
    from gatling.platform.open import Gatling


def caller(_: Gatling, call: Call) -> Caller:
    """The token itself."""
    return call.token


def list_apps(gatling: Gatling, call: Call) -> list[AppStatus]:
    """The apps that the token may see."""
    shown = [app for app in apps.every(gatling.db, clusters=True) if call.grant.covers(app.name)]
    return overview.every(gatling, shown)


def get_app(gatling: Gatling, call: Call) -> AppDetails:
    """An app."""
    return overview.details(gatling, call.app)


def list_releases(gatling: Gatling, call: Call) -> list[ReleaseEntry]:
    """Its releases."""
    return releases.every(gatling, call.app)


def list_deployments(gatling: Gatling, call: Call) -> list[DeploymentEntry]:
    """Its deployments."""
    return deployments.every(gatling, call.app, call.query.limit)


def get_deployment(gatling: Gatling, call: Call) -> DeploymentEntry:
    """One of them."""
    return deployments.get(gatling, call.app, call.ident)


def get_deployment_log(gatling: Gatling, call: Call) -> str:
    """Its output."""
    deployments.get(gatling, call.app, call.ident)
    text = deployments.output(gatling, call.app, call.ident)
    if text is None:
        raise NotFound(f"The output of deployment {call.ident} is no longer retained.")
    return text


def get_plan(gatling: Gatling, call: Call) -> PlanResult:
    """A deployment that is not carried out."""
    wanted = call.query.release
    number = number_of(wanted) if wanted else None
    target = explain.target(gatling, call.app, number, None)
    glance = call.query.files or call.grant.role == "reader"
    return plans.proposed(gatling, call.app, target, call.query.strategy, files_only=glance).result


def list_config(gatling: Gatling, call: Call) -> list[Variable]:
    """The names of the variables."""
    waiting = variables.pending(gatling.db, call.app)
    known = sorted({*variables.of_app(gatling.db, call.app), *waiting})
    return [Variable(name, name in waiting) for name in known]


def list_domains(gatling: Gatling, call: Call) -> list[str]:
    """The domains."""
    return list(apps.get(gatling.db, call.app).domains)


def add_domain(gatling: Gatling, call: Call) -> Domains:
    """Add a domain, or take one over."""
    wanted = call.body
    if wanted.other_app is None:
        return _domains(domains.add(gatling, call.app, wanted.domain))
    return _domains(domains.move(gatling, call.app, wanted.domain, wanted.other_app))


def remove_domain(gatling: Gatling, call: Call) -> Domains:
    """Remove a domain."""
    return _domains(domains.remove(gatling, call.app, call.name))


def _domains(done: DomainChange) -> Domains:
    return Domains(done.changed, done.domains, done.notes)


def list_certificates(gatling: Gatling, call: Call) -> list[Kept]:
    """The certificates."""
    return certificates.of(gatling, call.app)


def get_stats(gatling: Gatling, call: Call) -> AppStats:
    """The numbers."""
    begin = datetime.fromisoformat(logs.parse_since(call.query.since)).timestamp()
    return stats.of_app(gatling, call.app, begin)


def get_settings(gatling: Gatling, call: Call) -> EffectiveSettings:
    """The settings."""
    return settings.effective(gatling, call.app)


def change_settings(gatling: Gatling, call: Call) -> SettingsDone:
    """Set settings, and unset those that are null."""
    values = {
        key: value if isinstance(value, str) else template.written(value)
        for key, value in call.body.items() if value is not None
    }  # fmt: skip
    unset = [key for key, value in call.body.items() if value is None]
    notes: list[str] = []
    done = settings.change(gatling, call.app, values, unset, say=notes.append)
    return SettingsDone(done.applied, done.waiting, notes)


def get_https(gatling: Gatling, call: Call) -> Https:
    """How HTTPS is with an app."""
    return https.shown(gatling, call.app)


def list_processes(gatling: Gatling, call: Call) -> list[Process]:
    """The workers."""
    return processes.every(gatling, call.app)


def list_audit(gatling: Gatling, call: Call) -> list[AuditEntry]:
    """The changes of an app, with their authors."""
    return audit.latest(gatling, call.app)


def change_config(gatling: Gatling, call: Call) -> ConfigChange:
    """Set variables, and unset those that are null."""
    changed = False

    def work() -> None:
        nonlocal changed
        changed = config.change(
            gatling, call.app, call.body, progress=Progress(), restart=call.query.restart
        )

    deployment = deployed(gatling, call.app, work)
    return ConfigChange(changed, variables.pending(gatling.db, call.app), deployment)


def restart(gatling: Gatling, call: Call) -> DeploymentEntry | None:
    """Restart an app or a worker."""
    process = call.body.process
    if process is not None:
        processes.restart(gatling, call.app, process, progress=Progress())
        return None
    return deployed(
        gatling, call.app, lambda: deploys.restart(gatling, call.app, progress=Progress())
    )


def rollback(gatling: Gatling, call: Call) -> DeploymentEntry | None:
    """Make an earlier release live again."""
    wanted = call.body
    if wanted.with_data:
        return _rewind(gatling, call)
    number = deploys.rollback_target(
        gatling, call.app, number_of(wanted.release) if wanted.release else None
    )
    passed = deploys.passed_migrations(gatling, call.app, number)
    if passed and wanted.confirm != call.app:
        raise InvalidInput(
            f"The database has migrations that v{number} does not know: {', '.join(passed)}. They"
            " stay applied.",
            hint=f"To go back anyway, repeat the request with confirm: {call.app!r}.",
        )
    return deployed(
        gatling, call.app,
        lambda: deploys.deploy_release(
            gatling, call.app, number, cause=f"rollback to v{number}", progress=Progress(),
            wish=Wish(wanted.strategy, wanted.rehearse),
        ),
    )  # fmt: skip


def _rewind(gatling: Gatling, call: Call) -> DeploymentEntry | None:
    wanted = call.body
    found = rewinding.plan(gatling, call.app, number_of(wanted.release) if wanted.release else None)
    if wanted.confirm != call.app:
        raise InvalidInput(
            f"v{found.release} would be live with the data of {found.at}. All changes of"
            f" {found.database} since then are missing there. {found.database} itself is kept.",
            hint=f"To return, repeat the request with confirm: {call.app!r}.",
        )
    wish = Wish(wanted.strategy, wanted.rehearse)
    return deployed(
        gatling, call.app, lambda: rewinding.rewind(gatling, found, Progress(), wish=wish)
    )


def stop(gatling: Gatling, call: Call) -> AppDetails:
    """Stop an app."""
    with lock.hold_app(gatling.home.app(call.app), Progress().say):
        lifecycle.stop(gatling, apps.get(gatling.db, call.app))
    return overview.details(gatling, call.app)


def start(gatling: Gatling, call: Call) -> AppDetails:
    """Start it again."""
    lifecycle.ensure_up(gatling, Progress(), call.app)
    with lock.hold_app(gatling.home.app(call.app), Progress().say):
        lifecycle.start(gatling, apps.get(gatling.db, call.app))
    return overview.details(gatling, call.app)


def scale(gatling: Gatling, call: Call) -> list[Process]:
    """Let so many of each worker run."""
    return processes.scale(gatling, call.app, call.body, progress=Progress())


def begin_maintenance(gatling: Gatling, call: Call) -> AppDetails:
    """Show the maintenance page."""
    maintenance.switch(gatling, call.app, call.body.message.strip())
    return overview.details(gatling, call.app)


def end_maintenance(gatling: Gatling, call: Call) -> AppDetails:
    """Serve the app again."""
    maintenance.switch(gatling, call.app, None)
    return overview.details(gatling, call.app)


def elsewhere(_: Gatling, __: Call) -> None:
    """For routes that the server answers by itself."""
    raise NotImplementedError


def number_of(release: str) -> int:
    """The number of a release that was typed as `v4`; raises InvalidInput."""
    number = names.release_number(release)
    if number is None:
        raise InvalidInput(f"{release!r} is not a release.", hint="For example v4.")
    return number


def deployed(gatling: Gatling, app: str, work: Callable[[], object]) -> DeploymentEntry | None:
    """Do something that may be a deployment; the deployment that it was."""
    last = next(iter(recorded.of_app(gatling.db, app, limit=1)), None)
    work()
    since = recorded.newest(gatling.db, 100, after=last.id if last else 0)
    own = [one for one in since if (one.app, one.actor) == (app, gatling.actor)]
    return deployments.described(own[-1]) if own else None
