"""A server's home whose SSH side is visited in this process; what it would start is noted."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import click

from gatling.operations import apps as loading
from gatling.operations import lifecycle
from gatling.platform.open import open_gatling
from gatling.ssh import access
from gatling.state import apps, audit, keys
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.state.audit import Entry
    from gatling.state.keys import Role

HOLDERS: tuple[tuple[str, Role, tuple[str, ...]], ...] = (
    ("ann", "admin", ("*",)),
    ("bob", "deployer", ("shop", "new")),
    ("eve", "deployer", ("*",)),
    ("rita", "reader", ("shop",)),
    ("rob", "reader", ("*",)),
)


class BecameError(BaseException):
    """The process would be another program now."""

    def __init__(self, path: str, argv: list[str], env: dict[str, str]) -> None:
        super().__init__(argv)
        self.path, self.argv, self.env = path, argv, env


@dataclass
class Visit:
    """What came of a command over SSH."""

    status: int | None = None
    became: BecameError | None = None
    ran: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """The commands of ours that would have run, with what they were given."""
    environment: dict[str, str] = field(default_factory=dict)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@dataclass
class Server:
    """A home with apps and keys, visited in this process; nothing is carried out."""

    root: Path
    port: int = field(default_factory=free_port)
    """For the proxy of `carry_out`."""

    def visit(self, name: str, typed: str, **environment: str) -> Visit:
        seen = Visit()
        real = click.Command.invoke

        def invoke(command: click.Command, context: click.Context) -> Any:
            if isinstance(command, click.Group):
                return real(command, context)
            path = context.command_path.removeprefix("gatling ")
            seen.ran.append((path, context.params))
            seen.environment = dict(os.environ)
            return None

        def execve(path: str, argv: list[str], env: dict[str, str]) -> None:
            raise BecameError(path, argv, env)

        given = {"SSH_ORIGINAL_COMMAND": typed, "GATLING_HOME": str(self.root / "home")}
        with (
            mock.patch.dict(os.environ, given | environment),
            mock.patch.object(click.Command, "invoke", invoke),
            mock.patch.object(os, "execve", execve),
        ):
            try:
                seen.status = access.main(name)
            except BecameError as became:
                seen.became = became
        return seen

    def carry_out(self, name: str, typed: str, stdin: bytes = b"") -> int:
        """A command for the holder of a key, really run; its exit status."""
        given = {
            "SSH_ORIGINAL_COMMAND": typed,
            "GATLING_HOME": str(self.root / "home"),
            "GATLING_LISTEN": f"127.0.0.1:{self.port}",
        }
        with (
            mock.patch.dict(os.environ, given),
            io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8") as sent,
            mock.patch.object(sys, "stdin", sent),
        ):
            return access.main(name)

    def down(self) -> None:
        """Stop what a command has started."""
        with self.opened() as gatling:
            lifecycle.down(gatling, Progress())

    def keep(self) -> None:
        """Keep the home as it is now, for `restore`; nothing of it runs."""
        shutil.copytree(self.root / "home", self.root / "kept", symlinks=True)

    def restore(self) -> None:
        """Have the home that was kept again; nothing of this one runs."""
        shutil.rmtree(self.root / "home")
        shutil.copytree(self.root / "kept", self.root / "home", symlinks=True)

    def apps(self) -> list[str]:
        with self.opened() as gatling:
            return [app.name for app in apps.every(gatling.db)]

    def audit(self) -> list[Entry]:
        with self.opened() as gatling:
            return audit.latest(gatling.db, limit=10_000)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        home = {"GATLING_HOME": str(self.root / "home")}
        with mock.patch.dict(os.environ, home), open_gatling() as gatling:
            yield gatling

    def repository(self, app: str) -> str:
        with self.opened() as gatling:
            return str(gatling.home.app(app).repository)


@contextlib.contextmanager
def new_server() -> Iterator[Server]:
    """A home with the apps shop and blog, and the keys of `HOLDERS`."""
    root = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    made = Server(root)
    try:
        with made.opened() as gatling:
            for app in ("shop", "blog"):
                loading.load(gatling, app)
            for name, role, named in HOLDERS:
                keys.add(
                    gatling.db, name, kind="ssh-ed25519", blob=name, fingerprint=name, role=role,
                    apps=named,
                )  # fmt: skip
        yield made
    finally:
        shutil.rmtree(root)
