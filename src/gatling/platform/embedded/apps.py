"""Apps of an embedded home: directories of its user."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gatling.cleanup import finally_
from gatling.platform import port_claims
from gatling.platform.base import UTF_8, Surroundings
from gatling.platform.embedded import instances, node_key
from gatling.platform.local import LOOPBACK, may_have, remove_tree
from gatling.state.apps import SLOTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.embedded.supervisord import Supervisord
    from gatling.state.apps import App

RUNTIME_VARIABLES = ("HOME", "USER", "TZ")
"""The variables of the deploying user that an instance inherits, besides PATH."""

_BUILD_VARIABLES = re.compile(
    "HOME|USER|LOGNAME|SHELL|TMPDIR|TZ|SSH_AUTH_SOCK"
    # how programs reach the network
    "|(http|https|ftp|all|no)_proxy|(HTTP|HTTPS|FTP|ALL|NO)_PROXY"
    "|SSL_CERT_FILE|SSL_CERT_DIR|CURL_CA_BUNDLE|NODE_EXTRA_CA_CERTS"
    # how Hex and npm are configured, and where version managers keep their tools
    "|(HEX|NPM_CONFIG|npm_config|XDG|ASDF|MISE|NIX)_[A-Za-z0-9_]+|CARGO_HOME|RUSTUP_HOME"
)
"""The variables of the pusher's shell that a build sees.

They say where tools and caches are, and how to reach the network. No other variable is passed on,
because a release would otherwise depend on the shell that pushed it.
"""


class EmbeddedApps:
    """Implements `Apps`; see there for the calls."""

    def __init__(self, home: EmbeddedHome, programs: Supervisord) -> None:
        self._home = home
        self._programs = programs

    def make(self, app: App) -> None:
        """See Apps."""
        port_claims.take(app.every_port, self._home.root)
        self.clear(app.name)  # what an unload that was killed has left
        paths = self._home.app(app.name)
        for directory in (paths.build, paths.releases, paths.logs):
            directory.mkdir(mode=0o700, parents=True)
        instances.configure(self._home, self._programs, app.name)

    def prepare(self, app: App) -> None:
        """See Apps."""
        port_claims.take(app.every_port, self._home.root)
        instances.configure(self._home, self._programs, app.name)

    def remove(self, app: App) -> None:
        """See Apps."""
        with finally_(lambda: port_claims.give_back(app.every_port, self._home.root)):
            instances.configuration_file(self._home, app.name).unlink(missing_ok=True)
            if self._programs.running():
                self._programs.update()

    def clear(self, name: str) -> None:
        """See Apps."""
        paths = self._home.app(name)
        for directory in (paths.repository, paths.root, self._home.certificates / name):
            remove_tree(directory)

    def sync(self) -> None:
        """See Apps: a power cut may take an app that was just made; it can be made again."""

    def may_have(self, port: int) -> bool:
        """See Apps."""
        return may_have(port, self._home)

    def guard(self, ports: Mapping[str, Sequence[int]]) -> None:
        """See Apps: everything is one user's."""

    def surroundings(self, name: str) -> Surroundings:
        """See Apps."""
        host = {name: os.environ[name] for name in RUNTIME_VARIABLES if name in os.environ}
        kept = {name: text for name, text in os.environ.items() if _BUILD_VARIABLES.fullmatch(name)}
        path = {"PATH": program_path()}
        paths = self._home.app(name)
        key = node_key.ensure(paths.root)
        return Surroundings(
            paths, host | path, kept | UTF_8 | path,
            cookie_in_file=False, private_tmp=False, node_host=LOOPBACK,
            node_flags=node_key.argument(key) if key else "",
            without_flags=frozenset(
                slot for slot in SLOTS if instances.has_key(paths, slot) is False
            ),
        )  # fmt: skip

    def push_address(self, name: str) -> str:
        """See Apps."""
        return str(self._home.app(name).repository)


def program_path() -> str:
    """The user's PATH, without what git adds to it for its hooks."""
    directories = os.environ.get("PATH", os.defpath).split(":")
    return ":".join(dict.fromkeys(d for d in directories if Path(d).name != "git-core"))
