"""A server fulfils what every platform has to.

That is said in tests/contract.py for protocols, and in tests/commands_contract.py for commands.
Pushes come over SSH here. Commands pass what sshd starts for a key (gatling.ssh.access), forked
from one process: a connection and a new Python for each would take longer than the commands.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import commands_contract, contract
from tests.commands_contract import Bench, Done, Kind
from tests.warm import NOT_LOADED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.server.server import Person, Server


FORKS = """
import importlib, json, os, pkgutil, shlex, sys, tempfile
import gatling
from gatling.ssh import access
for module in pkgutil.walk_packages(gatling.__path__, "gatling."):
    if not module.name.startswith({others!r}):
        importlib.import_module(module.name)
for line in sys.stdin:
    files = [tempfile.TemporaryFile("w+", errors="replace") for _ in range(2)]
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        for number, file in enumerate(files, 1):
            os.dup2(file.fileno(), number)
        os.environ["SSH_ORIGINAL_COMMAND"] = shlex.join(json.loads(line))
        status = 70
        try:
            status = access.main("ann")
        except SystemExit as leaving:
            status = leaving.code or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    said = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
    for file in files:
        file.seek(0)
        said.append(file.read())
    print(json.dumps(said), flush=True)
"""
"""Runs each line of standard input, words as JSON, as a command over SSH with the key `ann`."""
OTHERS = (*NOT_LOADED, "gatling.__main__", "gatling.api", "gatling.dashboard")
"""How modules begin that no command of these needs."""
AS_GATLING = (
    "runuser", "-u", "gatling", "--", "env", "-i", "-C", "/", "PATH=/usr/bin:/bin",
    "HOME=/var/lib/gatling", "LANG=C.UTF-8", "/opt/gatling/bin/python", "-I", "-c",
)  # fmt: skip


class Host:
    """An app of a server, and its admin. See commands_contract.Place."""

    kind: Kind = "server"

    def __init__(self, server: Server, ann: Person) -> None:
        self._server = server
        ann.run("load", "shop")
        self.project = ann.project("shop")
        public = ann.key.with_name(f"{ann.key.name}.pub").read_text()
        server.box.authorize("root", public)
        words = [*AS_GATLING, FORKS.format(others=OTHERS)]
        self._commands = server.box.start_ssh("root", words, key=ann.key)

    def close(self) -> None:
        self._commands.communicate()

    def run(self, *words: str) -> Done:
        assert self._commands.stdin is not None
        assert self._commands.stdout is not None
        self._commands.stdin.write(json.dumps(words) + "\n")
        self._commands.stdin.flush()
        said = self._commands.stdout.readline()
        assert said.startswith("["), said + self._commands.stdout.read()
        return Done(*json.loads(said))

    def ask(self) -> tuple[int, str]:
        answer = self._server.get()
        return answer.status, answer.text

    @contextlib.contextmanager
    def load(self) -> Iterator[list[str]]:
        failures: list[str] = []
        with self._server.client() as client:
            yield failures
        failures += client.failures

    def kill(self) -> None:
        self._server.box.exec(["kill", "-9", str(self._server.status()["pid"])])


@pytest.fixture(scope="module")
def bench(server: Server) -> Iterator[Bench]:
    with contextlib.closing(Host(server, server.admin("ann"))) as host:
        yield Bench(host)


@pytest.mark.parametrize("check", commands_contract.CHECKS, ids=commands_contract.NAMES)
def test_commands_of_a_server(bench: Bench, check: Callable[[Bench], None]) -> None:
    check(bench)


def test_a_server_is_a_platform(server: Server) -> None:
    program = "/var/lib/gatling/home/contract.py"
    text = Path(contract.__file__).read_text()
    server.box.exec(["tee", program], user="gatling", stdin=text)
    try:
        done = server.box.exec(
            ["/opt/gatling/bin/python", "-I", program], user="gatling", check=False, timeout=500
        )
    finally:
        server.box.exec(["rm", program])
    assert (done.returncode, done.stdout) == (0, f"{len(contract.CHECKS)} checks, 0 failed\n"), (
        done.stdout + done.stderr
    )
