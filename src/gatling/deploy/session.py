"""A home, opened for a command: what killed deployments left is put in order first."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from gatling.engine import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.engine import Engine
    from gatling.errors import GatlingError


@contextlib.contextmanager
def opened() -> Iterator[Engine]:
    """The engine of the home in use; deployments whose process was killed are recovered first."""
    with open_engine() as engine:
        if engine.db.row("SELECT 1 FROM deployments WHERE outcome = 'running' LIMIT 1"):
            from gatling.deploy import recovery  # noqa: PLC0415 (slow to load, seldom needed)

            for name in recovery.recover_unfinished(engine, _not_recovered):
                sys.stderr.write(f"{name}: recovered from a deployment whose process was killed\n")
        yield engine


def _not_recovered(name: str, error: GatlingError) -> None:
    """One app that cannot be put in order must not keep people from looking after the others."""
    sys.stderr.write(f"{name}: recovery was not possible yet: {error.what}\n")
