"""The deployments of an app: the typed results behind `gatling deployments`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gatling.state import apps, deployments
from gatling.state.deployments import Outcome  # noqa: TC001 (msgspec reads it)

if TYPE_CHECKING:
    from gatling.deploy.evidence.prober import Sample
    from gatling.platform.open import Gatling
    from gatling.state.deployments import Deployment


class StepEntry(Struct, frozen=True):
    """A step of a deployment. `seconds` is None while it runs."""

    name: str
    seconds: float | None
    outcome: str


class DeploymentEntry(Struct, frozen=True):
    """One attempt to make a release live. Values that are not known, or not yet, are None."""

    id: int
    release: str | None
    previous: str | None
    """The release that was live before."""
    commit: str | None
    cause: str
    actor: str
    strategy: str | None
    reasons: list[str]
    outcome: Outcome
    error: str | None
    started_at: str
    seconds: float | None
    steps: list[StepEntry]
    probe: dict[str, Any] | None
    """The result of the requests during the switch; docs/operations.md has its fields."""
    suspended_ms: float | None
    """How long a hot upgrade suspended processes."""


def every(gatling: Gatling, app: str, limit: int = 1000) -> list[DeploymentEntry]:
    """The deployments of an app, the newest first; raises NotFound."""
    apps.get(gatling.db, app)
    return [described(each) for each in deployments.of_app(gatling.db, app, limit)]


def get(gatling: Gatling, app: str, ident: int) -> DeploymentEntry:
    """One deployment of an app; raises NotFound."""
    apps.get(gatling.db, app)
    return described(deployments.get(gatling.db, ident, app))


def output(gatling: Gatling, app: str, ident: int) -> str | None:
    """The whole output of a deployment; None when it is not kept any more."""
    try:
        return gatling.home.app(app).deployment_log(ident).read_text(errors="replace")
    except FileNotFoundError:
        return None


def samples(gatling: Gatling, app: str, ident: int) -> list[Sample]:
    """The prober's requests of a deployment, one by one; none where they are not kept."""
    from gatling.deploy import deployment_log  # loads what deploys, and only the dashboard asks

    return deployment_log.samples_of(gatling.home.app(app), ident)


def described(found: Deployment) -> DeploymentEntry:
    """A deployment for programs."""
    return DeploymentEntry(
        id=found.id,
        release=f"v{found.release}" if found.release else None,
        previous=f"v{found.previous}" if found.previous else None,
        commit=found.commit,
        cause=found.cause,
        actor=found.actor,
        strategy=found.strategy,
        reasons=list(found.reasons),
        outcome=found.outcome,
        error=found.error,
        started_at=found.started_at,
        seconds=found.seconds,
        steps=[StepEntry(step.name, step.seconds, step.outcome) for step in found.steps],
        probe=found.probe,
        suspended_ms=found.suspended_ms,
    )
