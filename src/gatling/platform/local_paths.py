"""Further paths of a home whose instances are OS processes of this machine."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from gatling import names
from gatling.paths import AppPaths, Home

if TYPE_CHECKING:
    from pathlib import Path


class LocalPaths(AppPaths):
    """The places of an app that its instances and the machine's proxy use."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def route(self) -> Path:
        """The files that the proxy reads: the route, the maintenance page, fingerprinted assets."""

    def slot(self, slot: int | str) -> Path:
        """Return the directory of the files that an instance in a slot needs and leaves."""
        return self.root / "slots" / str(slot)

    def slots(self) -> list[int | str]:
        """All slots that there are."""
        return [1, 2, *self.process_slots()]

    def process_slots(self) -> list[str]:
        """The slots of further processes that there are, such as `worker.1`."""
        entries = (self.root / "slots").glob("*.*")  # also files that are being written
        return sorted(entry.name for entry in entries if names.is_process_slot(entry.name))


class LocalHome(Home):
    """A home whose apps have such places."""

    __slots__ = ()

    @abc.abstractmethod
    def app(self, name: str) -> LocalPaths:
        """See Home."""
