"""A home whose API is served by a process of its own, and a client of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from gatling.operations import apps as loading
from gatling.operations import tokens
from gatling.platform.open import open_gatling
from gatling.state import audit, config, deployments, releases
from tests.conftest import ROOT, until, warm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatling.platform.open import Gatling
    from gatling.state.audit import Entry

MALFORMED = "Invalid HTTP request received."
"""The line that the server prints for a request that is no HTTP."""
VALUE = "hunter2-is-a-secret"
"""The value of a variable, which no answer may have."""
UNLIMITED = """\
from gatling.api import limits
limits.RATE = limits.UNKNOWN_RATE = 1e6
limits.BURST = limits.UNKNOWN_BURST = 10**6
limits.AT_ONCE = 100
"""
FORKED = """\
import sys
sys.path.append({root!r})
from tests.warm import fork_changes
fork_changes({place!r})
"""
PROGRAM = """\
{before}
import sys
from gatling.__main__ import main
main()
"""


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Served:
    """The home, the server and its clients."""

    root: Path
    env: dict[str, str]
    place: str = ""
    tokens: dict[str, str] | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[Gatling]:
        with mock.patch.dict(os.environ, self.env), open_gatling() as gatling:
            yield gatling

    def token(self, name: str, role: Any, *apps: str, expires: str = "1d") -> str:
        """A new token."""
        with self.opened() as gatling:
            return tokens.add(gatling, name, role, apps or ("*",), expires).token

    def connection(self) -> http.client.HTTPConnection:
        if self.place.startswith("/"):
            return _Connection(self.place)
        return http.client.HTTPConnection(self.place, timeout=120)

    def ask(
        self,
        method: str,
        path: str,
        token: str | None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, with a body that is sent as JSON unless it is bytes."""
        given = dict(headers or {})
        if token is not None:
            given.setdefault("Authorization", f"Bearer {token}")
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None:
            given.setdefault("Content-Type", "application/json")
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, path, raw, given)
            found = connection.getresponse()
            named = {name.lower(): value for name, value in found.headers.items()}
            return Answer(found.status, named, found.read().decode())

    def audit(self) -> list[Entry]:
        with self.opened() as gatling:
            return audit.latest(gatling.db, limit=10_000)


def record(gatling: Gatling, app: str) -> None:
    """Put releases, deployments and config of an app on record."""
    db = gatling.db
    for number, base in ((1, None), (2, 1)):
        releases.add(db, releases.Release(
            app, number, "config" if base else "build", base, "a" * 40, "shop", "0.1.0",
            "1.18", "27", 1_234_567, "2026-01-01T00:00:00.000Z", None, {"SECRET": VALUE}, {},
        ))  # fmt: skip
    done = deployments.begin(db, app, cause="push", actor="ann", mark="m", commit="a" * 40)
    deployments.set_target(db, done.id, release=2, slot=1, strategy="rolling", reasons=("one",))
    deployments.begin_step(db, done.id, 0, "build")
    deployments.end_step(db, done.id, 0, "succeeded", 1.5)
    deployments.end(db, done.id, "succeeded", seconds=2.5, probe={"requests": 7, "failed": 0})
    log = gatling.home.app(app).deployment_log(done.id)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("-----> it was built\n")
    config.replace(db, app, {"SECRET": VALUE})


@contextlib.contextmanager
def new_home() -> Iterator[Served]:
    """A home with the apps shop and blog, of which nothing runs."""
    root = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATLING_")}
    env = kept | {"GATLING_HOME": str(root / "home"), "GATLING_LISTEN": f"127.0.0.1:{port}"}
    served = Served(root, env)
    try:
        with served.opened() as gatling:
            for app in ("shop", "blog"):
                loading.load(gatling, app)
                record(gatling, app)
        yield served
    finally:
        subprocess.run([sys.executable, "-I", "-m", "gatling", "down"], env=env, check=False,
                       capture_output=True)  # fmt: skip

        def removed() -> bool:
            """A thread that still asks a node may close the records while they are removed."""
            shutil.rmtree(root, ignore_errors=True)
            return not root.exists()

        until(removed, "the end of the home")


def forked() -> str:
    """What a server runs first whose changes are carried out by processes that need load nothing.

    Each other one takes 0.25 s of CPU for that.
    """
    return FORKED.format(root=str(ROOT), place=str(warm().directory / "warm"))


@contextlib.contextmanager
def server(
    served: Served, listen: str = "", before: str = "", printed_too: str = "",
    run_by: Sequence[str] = (),
) -> Iterator[str]:  # fmt: skip
    """The API of a home, served meanwhile. It prints nothing but lines that are `printed_too`.

    `run_by` are the words of a program that runs it, such as unshare(1). With these, or with
    something that it runs `before`, changes are carried out as users have them.
    """
    argv = ["api", *(["--listen", listen] if listen else [])]
    program = PROGRAM.format(before=before or ("" if run_by else forked()))
    printed = served.root / "api.out"
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [*run_by, sys.executable, "-I", "-c", program, *argv], env=served.env, stdout=out,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    assert process.stderr is not None
    try:
        line = process.stderr.readline().decode()
        assert line.startswith("The API is served on "), line + process.stderr.read().decode()
        served.place = line.removeprefix("The API is served on ").strip().rstrip(".")
        yield served.place
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with process.stderr as errors:
            rest = errors.read().decode()
        process.wait(30)
    lines = {*rest.splitlines(), *printed.read_text().splitlines()}
    assert lines <= {printed_too}, f"{rest}\n{printed.read_text()}"
