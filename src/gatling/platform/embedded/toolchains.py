"""Toolchains of an embedded home: in a directory of its own, got with its user's rights."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import CommandFailed
from gatling.platform.embedded.apps import program_path
from gatling.platform.toolchains import store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.toolchains.order import Order
    from gatling.platform.toolchains.store import Installed


class OwnToolchains:
    """Implements `Toolchains`; see there for the calls."""

    def __init__(self, home: EmbeddedHome) -> None:
        self._directory = home.toolchains

    def installed(self) -> list[Installed]:
        """See Toolchains."""
        return store.installed(self._directory)

    def programs(self, name: str) -> Path:
        """See Toolchains."""
        return store.programs(self._directory, name)

    def install(self, order: Order, say: Callable[[str], None]) -> Installed:
        """See Toolchains: a process of its own, which ends with this one."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        with store.workshop(self._directory) as work:
            report = store.Report(say)
            argv = [sys.executable, "-I", "-m", "gatling.platform.toolchains.fetch", str(work),
                    order.json()]  # fmt: skip
            done = process.run(
                argv, timeout=store.INSTALL_SECONDS, on_line=report.line, check=False,
                env=os.environ | {"PATH": program_path()}, nice=process.BACKGROUND,
            )  # fmt: skip
            name = report.name
            if done.status != 0 or not name:
                raise CommandFailed("The toolchain was not installed.", log=done.tail)
            if (work / "tree").is_dir():
                return store.adopt(work / "tree", self._directory, order)
        return store.one(self._directory, name)

    def remove(self, name: str) -> None:
        """See Toolchains."""
        store.remove(self._directory, name)
