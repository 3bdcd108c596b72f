"""The state that the parts of a deployment share."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from msgspec import Struct, field

from gatling.build.callbacks import Callbacks
from gatling.cleanup import text_of
from gatling.errors import GatlingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.deploy.evidence.prober import Proof
    from gatling.deploy.journal import Journal
    from gatling.interrupt import Interruption
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.deployments import Deployment
    from gatling.ui.progress import Progress


class Result(Struct):
    """The result of a deployment so far; the only part of its context that changes."""

    proof: Proof | None = None
    """The prober's report, from the cut-over on."""
    warnings: list[str] = field(default_factory=list)
    """Descriptions of the failures after the decision."""
    callbacks: Callbacks = field(default_factory=Callbacks)
    """The project's, from the export of a commit on."""


class Context(Struct, frozen=True):
    """The state that a deployment's parts share. A later stage knows more, in a copy of its own."""

    app: App
    """As it was when the lock had been taken, with the domains that the deployment adds."""
    deployment: Deployment
    settings: Settings
    """Those of the release that is deployed, once it is known."""
    journal: Journal
    interruption: Interruption
    progress: Progress
    domains: tuple[str, ...] = ()
    """Domains that the project adds with this release."""
    alone: tuple[str, ...] = ()
    """Why no second instance may run beside the live one (plan/exclusive.py)."""
    result: Result = field(default_factory=Result)
    started: float = field(default_factory=time.monotonic)

    @property
    def callbacks(self) -> Callbacks:
        """The project's callbacks; none in a deployment that builds nothing."""
        return self.result.callbacks

    @contextlib.contextmanager
    def tolerated(self) -> Iterator[None]:
        """A step after the decision: its failure is a warning, and the next step follows."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (the release is live whatever this was)
            self.warn(error)

    def warn(self, error: BaseException) -> None:
        """Record a failure after the decision."""
        for line in error.log if isinstance(error, GatlingError) else ():
            self.progress.record(line)
        self.result.warnings.append(text_of(error))
        self.progress.note(f"live, but: {text_of(error)}")
