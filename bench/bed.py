"""What the benchmarks stand on: a home of their own, apps in it, clients, and medians."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = sys.executable
IDENTITY = {
    "GIT_AUTHOR_NAME": "bench",
    "GIT_AUTHOR_EMAIL": "bench@example.com",
    "GIT_COMMITTER_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


class Bed:
    """A home on ports of its own, removed at the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.port = free_port()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "GATLING_"))}
        self.env = kept | IDENTITY | {
            "GATLING_HOME": str(self.home),
            "GATLING_LISTEN": f"127.0.0.1:{self.port}",
            "GATLING_PORTS": "21000-21999",
        }  # fmt: skip

    def gatling(self, *arguments: str) -> str:
        """Run a command; what it printed. Raises CalledProcessError."""
        return self.output([PYTHON, "-I", "-m", "gatling", *arguments])

    def output(self, argv: list[str], cwd: Path | None = None, **more: str) -> str:
        """Run a program; what it printed. Raises CalledProcessError after showing that."""
        done = subprocess.run(
            argv, cwd=cwd, env=self.env | more, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode != 0:
            sys.stderr.write(done.stdout)
            done.check_returncode()
        return done.stdout

    def commit(self, project: Path) -> None:
        """Commit all that changed in a project."""
        self.output(["git", "add", "--all"], project)
        self.output(["git", "commit", "--quiet", "--message", "change"], project)

    def repository(self, project: Path, app: str, strategy: str = "rolling") -> None:
        """Make a project a git repository with the app as its remote, and the app itself."""
        self.gatling("load", app)
        self.gatling("settings", "set", app, f"deploy.strategy={strategy}")
        self.output(["git", "init", "--quiet", "--initial-branch", "main"], project)
        remote = str(self.home / "apps" / f"{app}.git")
        self.output(["git", "remote", "add", "gatling", remote], project)
        self.commit(project)


@contextlib.contextmanager
def bed() -> Iterator[Bed]:
    """A bed; at the end everything of it is stopped and removed."""
    root = Path(tempfile.mkdtemp(prefix="gatling-bench-"))
    made = Bed(root)
    try:
        yield made
    finally:
        if made.home.exists():
            made.gatling("down")
        shutil.rmtree(root)


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_text(port: int, host: str, text: str, process: subprocess.Popen[str]) -> float:
    """Ask for / until the answer has `text`; the time (monotonic) at which it came.

    Raises RuntimeError when `process`, which is to bring it about, fails, or after two minutes.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/", headers={"Host": host})
            body = connection.getresponse().read().decode()
            connection.close()
            if text in body:
                return time.monotonic()
        if process.poll() not in (None, 0):
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
        time.sleep(0.01)
    raise RuntimeError(f"{text!r} was not answered within two minutes")


class KeepAliveClient:
    """One kept connection, asking again and again in a thread."""

    def __init__(self, port: int, host: str) -> None:
        self._port, self._host = port, host
        self.requests = self.failed = self.closed_idle = 0
        self.longest = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection, answered = self._connect(), False
        while not self._stop.wait(0.002):
            started = time.monotonic()
            try:
                connection.request("GET", "/health", headers={"Host": self._host})
                response = connection.getresponse()
                response.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # Before a byte of the answer: on a connection that was idle a client asks again.
                if answered:
                    self.closed_idle += 1
                else:
                    self.failed += 1
                connection, answered = self._connect(), False
                continue
            except (OSError, http.client.HTTPException):
                self.failed += 1
                connection, answered = self._connect(), False
                continue
            self.requests += 1
            self.failed += response.status != 200
            self.longest = max(self.longest, time.monotonic() - started)
            answered = True
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)


def spread(values: list[float]) -> str:
    """`1.42 s (1.38 … 1.61)`: median and extremes of seconds."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f} … {max(values):.2f})"
