"""Toolchains of a server: root's files, got by a program that owns nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import CommandFailed, HelperFailed, InvalidInput, NotFound
from gatling.platform.programs import INSTALLED_TOOLCHAINS
from gatling.platform.server.helper import client
from gatling.platform.server.tasks import attend
from gatling.platform.toolchains import store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatling.platform.toolchains.order import Order
    from gatling.platform.toolchains.store import Installed


class RootsToolchains:
    """Implements `Toolchains`; see there for the calls."""

    def installed(self) -> list[Installed]:
        """See Toolchains."""
        return store.installed(INSTALLED_TOOLCHAINS)

    def programs(self, name: str) -> Path:
        """See Toolchains."""
        return store.programs(INSTALLED_TOOLCHAINS, name)

    def install(self, order: Order, say: Callable[[str], None]) -> Installed:
        """See Toolchains: by root's helper."""
        report = store.Report(say)
        try:
            answer, tail, _ = attend("toolchain-install", {"order": order.json()}, report.line)
        except HelperFailed as error:
            raise _for_people(error) from None
        name = report.name
        if answer.get("result") == "timeout":
            raise CommandFailed("The toolchain was not installed in time.", log=tail)
        if answer.get("status") != 0 or not name:
            raise CommandFailed("The toolchain was not installed.", log=tail)
        return store.one(INSTALLED_TOOLCHAINS, str(answer.get("name") or name))

    def remove(self, name: str) -> None:
        """See Toolchains."""
        if name not in {each.name for each in self.installed()}:
            raise NotFound(f"The toolchain {name} is not installed.")
        try:
            client.ask("toolchain-remove", toolchain=name)
        except HelperFailed as error:
            raise _for_people(error) from None


def _for_people(error: HelperFailed) -> HelperFailed | InvalidInput:
    """An error that the user can correct becomes an InvalidInput."""
    return InvalidInput(error.what, hint=error.hint) if error.reason == client.INVALID else error
