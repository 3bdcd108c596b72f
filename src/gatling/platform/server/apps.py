"""Apps of a server: each has a user, directories and ports of its own, made by root's helper."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from gatling import files
from gatling.cleanup import finally_
from gatling.errors import HelperFailed
from gatling.platform import port_claims
from gatling.platform.base import UTF_8, Surroundings
from gatling.platform.local import LOOPBACK, may_have, remove_tree
from gatling.platform.programs import SYSTEM_PATH, TOOLCHAINS
from gatling.platform.server import slots, units
from gatling.platform.server.helper import client

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gatling.platform.server.home import ServerHome
    from gatling.state.apps import App

UNLIMITED = {"limits": {}, "stop": 30.0}
"""The values with which an app's units are created, until something is started in them."""


class ServerApps:
    """Implements `Apps`; see there for the calls."""

    def __init__(self, home: ServerHome) -> None:
        self._home = home

    def make(self, app: App) -> None:
        """See Apps."""
        port_claims.take(app.every_port, self._home.root)
        if self._home.app(app.name).root.exists():
            client.ask("forget", app=app.name)
        self._make_units(app.name)

    def prepare(self, app: App) -> None:
        """See Apps; also makes the app's user and directories, if they are gone."""
        port_claims.take(app.every_port, self._home.root)
        self._make_units(app.name)

    def _make_units(self, app: str) -> None:
        self._guarded.unlink(missing_ok=True)  # a user that is made has another id
        for slot in self._home.app(app).slots()[1:]:
            try:
                values = json.loads(slots.limits_file(self._home, app, slot).read_text())
            except (OSError, ValueError):
                values = UNLIMITED
            slots.make_unit(app, slot, values)

    def remove(self, app: App) -> None:
        """See Apps."""
        with finally_(lambda: port_claims.give_back(app.every_port, self._home.root)):
            client.ask("forget", app=app.name)

    def clear(self, name: str) -> None:
        """See Apps: what nginx reads; the rest was root's to remove."""
        remove_tree(self._home.app(name).route)

    def sync(self) -> None:
        """See Apps."""
        os.sync()

    def may_have(self, port: int) -> bool:
        """See Apps."""
        return may_have(port, self._home)

    def guard(self, ports: Mapping[str, Sequence[int]]) -> None:
        """See Apps: by root's table of nftables; `gatling server check` says if it is not."""
        known, wanted = self._guarded, json.dumps(ports, sort_keys=True)
        if not known.exists() or known.read_text() != wanted:
            with contextlib.suppress(HelperFailed):  # a kernel without nftables serves as well
                client.ask("ports", apps={app: list(each) for app, each in ports.items()})
                files.write(known, wanted)

    def surroundings(self, name: str) -> Surroundings:
        """See Apps."""
        paths, user = self._home.app(name), units.user(name)
        own = [TOOLCHAINS / each / "bin" for each in (name, "default")]
        found = [str(directory) for directory in own if directory.is_dir()]
        both = {"USER": user, "PATH": ":".join([*found[:1], SYSTEM_PATH])}
        return Surroundings(
            paths, {"HOME": str(paths.state)} | both, UTF_8 | {"HOME": str(paths.build)} | both,
            cookie_in_file=True, private_tmp=True, node_host=LOOPBACK, pinned=own[0].is_dir(),
        )  # fmt: skip

    def push_address(self, name: str) -> str:
        """See Apps."""
        return f"{units.OWNER}@{os.uname().nodename}:{name}"

    @property
    def _guarded(self) -> Path:
        """The ports that root's table was made for."""
        return self._home.run / "ports.json"
