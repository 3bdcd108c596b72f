"""What the benchmarks stand on: a home of their own, apps in it, clients, and medians."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
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

import psutil

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


class Beside:
    """Runs in threads of its own while a block of `with` runs."""

    def __init__(self, threads: int = 1) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        """What each thread does until `_stop` is set."""
        raise NotImplementedError


class KeepAliveClient(Beside):
    """One kept connection, asking again and again, `pause` seconds after each answer."""

    def __init__(self, port: int, host: str, pause: float = 0.002) -> None:
        super().__init__()
        self._port, self._host, self._pause = port, host, pause
        self.requests = self.failed = self.closed_idle = 0
        self.waits: list[float] = []

    def _run(self) -> None:
        connection, answered = self._connect(), False
        while not self._stop.wait(self._pause):
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
            self.waits.append(time.monotonic() - started)
            answered = True
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)


class Load(Beside):
    """Requests at a fixed rate, whether or not those before have been answered."""

    def __init__(self, port: int, host: str, path: str, rate: float, clients: int = 30) -> None:
        super().__init__(clients)
        self._port, self._host, self._path = port, host, path
        self._due, self._apart, self._turn = time.monotonic(), 1 / rate, threading.Lock()
        self.requests = self.failed = 0
        self.waits: list[float] = []

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._turn:
                due = self._due = self._due + self._apart
            time.sleep(max(0.0, due - time.monotonic()))
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            started = time.monotonic()
            try:
                connection.request("GET", self._path, headers={"Host": self._host})
                failed = connection.getresponse().status != 200
            except (OSError, http.client.HTTPException):
                failed = True
            connection.close()
            self.requests += 1
            self.failed += failed
            self.waits.append(time.monotonic() - started)


def waits(seconds: list[float]) -> str:
    """`waits p50 2 ms, p95 5 ms, longest 58 ms`."""
    ordered = sorted(seconds)
    half, most = (1000 * ordered[int(len(ordered) * part)] for part in (0.5, 0.95))
    return f"waits p50 {half:.0f} ms, p95 {most:.0f} ms, longest {1000 * ordered[-1]:.0f} ms"


def cpu() -> float:
    """CPU seconds of all programs that this process has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def busy() -> tuple[float, float]:
    """Seconds since the boot that the cores of the machine were busy, and all seconds of them."""
    times = psutil.cpu_times()
    everything = sum(times) - times.guest - times.guest_nice  # these are in `user` and `nice`
    return everything - times.idle - times.iowait, everything


def phases(home: Bed, app: str, strategy: str, deployments: int) -> str:
    """Medians of the steps of an app's last deployments of a strategy: `mix_compile 0.20 s, …`."""
    found = json.loads(home.gatling("deployments", app, "--json"))
    taken: dict[str, list[float]] = {}
    for deployment in [d for d in found if d["strategy"] == strategy][:deployments]:
        for step in deployment["steps"]:
            taken.setdefault(step["name"], []).append(step["seconds"] or 0.0)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items())


def spread(values: list[float]) -> str:
    """`1.42 s (1.38 … 1.61)`: median and extremes of seconds."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f} … {max(values):.2f})"
