"""How a deployment ended, as the records alone show it. Pure.

The decision is one transaction (`state.apps.make_live`). A deployment whose release and slot are
recorded as live has succeeded, whatever failed afterwards. Any other deployment has changed nothing
that serves. A deployment that fails and the recovery of one that was killed both ask here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import text
from gatling.cleanup import text_of
from gatling.errors import Interrupted

if TYPE_CHECKING:
    from gatling.state.apps import App
    from gatling.state.deployments import Deployment, Outcome

_MIGRATIONS = ("migrate", "setup")


class Ended(Struct, frozen=True):
    """An outcome, and what the record of it says."""

    outcome: Outcome
    text: str | None


def decided(deployment: Deployment, app: App) -> bool:
    """Whether the deployment made its release live; both are as recorded now."""
    if app.platform is not None:
        return deployment.id == app.live_deployment
    return (
        deployment.release is not None
        and deployment.slot is not None
        and (deployment.release, deployment.slot) == (app.live_release, app.live_slot)
    )


def outcome_of(deployment: Deployment, app: App, error: BaseException | None = None) -> Ended:
    """The outcome of a deployment that `error` ended, or whose process was killed (None)."""
    what = text_of(error) if error is not None else ""
    if decided(deployment, app):
        why = what or "the deploying process was killed before it finished"
        return Ended("succeeded", f"v{deployment.release} is live, but: {why}")
    if error is None:
        step = text.step(deployment.steps[-1].name) if deployment.steps else ""
        where = f" during {step}" if step else ""
        return Ended(
            "interrupted", f"The deploying process was killed{where}. {remains(deployment, app)}"
        )
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return Ended("cancelled", f"{what} {remains(deployment, app)}")
    return Ended("failed", what)


def remains(deployment: Deployment, app: App) -> str:
    """Describe the state after an undecided deployment: the live release, and lasting changes."""
    if app.live_release is None:
        serves = "Nothing is live."
    elif app.wanted == "stopped":
        serves = f"v{app.live_release} is still the live release, and the app is stopped."
    else:
        serves = f"v{app.live_release} is still live."
    ran = [step for step in deployment.steps if step.name in _MIGRATIONS]
    if not ran:
        return serves
    if all(step.outcome == "succeeded" for step in ran):
        return f"{serves} The migrations of the new release have run and stay applied."
    return f"{serves} The migrations of the new release were running: some may stay applied."
