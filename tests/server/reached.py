"""What a box and a machine have in common: ways to them over their network."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from typing import TYPE_CHECKING

from tests.conftest import PAUSE_SECONDS
from tests.server.host import run
from tests.server.web import Client, LanConnection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.conftest import Answer
    from tests.server.network import Lan


class Reached:
    """A server that ssh and HTTP reach; who inherits it sets these."""

    name: str
    ip: str
    lan: Lan
    ssh_config: Path
    """A configuration by which `ssh -F` reaches it by name, from the network of the bed."""
    patience = 10.0
    """Seconds for an answer over HTTP; a command over ssh has twelve times that."""

    def ssh_command(self, key: Path, *options: str, program: str = "ssh") -> list[str]:
        """`ssh …` up to the destination, which is `USER@NAME`. It runs in the network of the bed.

        `program` may be another one that takes these options, such as `sftp`.
        """
        there = ["nsenter", f"--net={self.lan.path}"]
        return [*there, program, "-F", str(self.ssh_config), "-i", str(key), *options]

    def git_env(self, key: Path) -> dict[str, str]:
        """What git must be told for `ssh://USER@NAME/…`, with any name of a box of this bed."""
        return {"GIT_SSH_COMMAND": shlex.join(self.ssh_command(key)), "GIT_SSH_VARIANT": "ssh"}

    def ssh(
        self,
        user: str,
        argv: Sequence[str] | str,
        *,
        key: Path,
        tty: bool = False,
        stdin: str | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command by ssh: words, or a text for the shell there."""
        command = self._ssh(user, argv, key, tty=tty)
        return run(*command, stdin=stdin, check=check, seconds=timeout or 12 * self.patience)

    def start_ssh(
        self, user: str, argv: Sequence[str] | str, *, key: Path, tty: bool = False
    ) -> subprocess.Popen[str]:
        """The same, going on while the test does, with pipes; output and errors are one."""
        return subprocess.Popen(
            self._ssh(user, argv, key, tty=tty), text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def _ssh(self, user: str, argv: Sequence[str] | str, key: Path, *, tty: bool) -> list[str]:
        words = argv if isinstance(argv, str) else shlex.join(argv)
        command = self.ssh_command(key, "-tt" if tty else "-T")
        return [*command, f"{user}@{self.name}", *([words] if words else [])]

    def connect(self, *, port: int = 80, timeout: float | None = None) -> LanConnection:
        """An HTTP connection, to be closed by the caller."""
        return LanConnection(self.lan, self.ip, port, timeout or self.patience)

    def get(
        self,
        path: str = "/",
        *,
        host: str = "localhost",
        port: int = 80,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: str | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Ask by HTTP, on a connection of its own."""
        with contextlib.closing(self.connect(port=port, timeout=timeout)) as connection:
            return connection.ask(path, host=host, method=method, headers=headers, body=body)

    def client(
        self, *, host: str = "localhost", path: str = "/", port: int = 80, threads: int = 1,
        kept: bool = False, pause: float = PAUSE_SECONDS, timeout: float | None = None,
    ) -> Client:  # fmt: skip
        """A load, as a context: `with box.client(host=…) as client: …; client.failures`."""
        return Client(
            self.lan, self.ip, host=host, path=path, port=port, threads=threads, kept=kept,
            pause=pause, timeout=timeout or self.patience,
        )  # fmt: skip
