"""What the parts of a deployment share."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatling.build.callbacks import Callbacks
from gatling.errors import GatlingError, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.deploy.evidence.prober import Proof
    from gatling.deploy.journal import Journal
    from gatling.interrupt import Interruption
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.deployments import Deployment
    from gatling.ui.progress import Progress


@dataclass
class Attempt:
    """What the parts of a deployment share; `proof` is set by the cut-over."""

    app: App
    """As it was when the lock had been taken."""
    deployment: Deployment
    settings: Settings
    journal: Journal
    interruption: Interruption
    progress: Progress
    proof: Proof | None = None
    callbacks: Callbacks = field(default_factory=Callbacks)
    """The project's, in a deployment of a commit."""
    domains: tuple[str, ...] = ()
    """New ones that the project names."""
    warnings: list[str] = field(default_factory=list)
    """What failed after the decision, which stands."""
    alone: tuple[str, ...] = ()
    """Why no second instance may run beside the live one (plan/exclusive.py)."""
    started: float = field(default_factory=time.monotonic)

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
        self.warnings.append(text_of(error))
        self.progress.note(f"live, but: {text_of(error)}")
