"""An embedded home and what its platform gives to apps, for tests that need no command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform.base import Address
from gatling.platform.embedded.apps import EmbeddedApps
from gatling.platform.embedded.home import EmbeddedHome
from gatling.platform.embedded.supervisord import Supervisord
from gatling.platform.homes import open_home
from gatling.platform.local import LOOPBACK
from gatling.platform.server.apps import ServerApps
from gatling.platform.server.home import ServerHome

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.base import Surroundings


def embedded_home(root: Path) -> EmbeddedHome:
    """The home, which is created."""
    home = open_home(root)
    assert isinstance(home, EmbeddedHome)
    return home


def surroundings(root: Path, app: str = "shop") -> Surroundings:
    """Those of an app of an embedded home, of which nothing need exist."""
    home = EmbeddedHome(root)
    return EmbeddedApps(home, Supervisord(home)).surroundings(app)


def on_server(root: Path, app: str = "shop") -> Surroundings:
    """The same of a server."""
    return ServerApps(ServerHome(root)).surroundings(app)


def local(port: int) -> Address:
    """A port of this machine."""
    return Address(LOOPBACK, port)
