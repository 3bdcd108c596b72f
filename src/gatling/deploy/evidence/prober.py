"""The prober: what a client of the app sees while a deployment cuts over, through the proxy."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from msgspec import Struct, structs

from gatling.deploy.evidence import health
from gatling.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gatling.platform.base import Address

PAUSE_SECONDS = 0.01
SLOW_PAUSE_SECONDS = 0.25
REQUEST_SECONDS = 10.0
FIRST_SECONDS = 5.0
"""How long the first answer is waited for, so that what follows is seen from before it begins."""
SAMPLES = 2000
"""Requests whose time is kept: twenty seconds at full pace."""
AFTER_SECONDS = 0.15
"""How long it goes on asking after the last step, so that a late failure is seen."""


class Sample(NamedTuple):
    """One request."""

    at_ms: float
    """When it began, since the first one did."""
    took_ms: float
    failed: bool
    held: bool = False
    """It was held open on purpose, from before a hot upgrade until after it (HeldRequest)."""


class Proof(Struct, frozen=True):
    """The prober's report. A request fails by no answer, or by a status of 500 and above."""

    requests: int
    failed: int
    longest_ms: float
    first_failure: str = ""
    cut: int = 0
    """Connections to the previous instance that were still open when their time was up."""
    processes: int | None = None
    """Processes converted by a hot upgrade, and how long they were suspended, in milliseconds."""
    suspended_ms: float | None = None
    paused_ms: float | None = None
    """How long new requests waited until none was in code that calls a removed function."""
    connections: int = 0
    """Lasting connections before a hot upgrade, how many of them went on, and how many were cut.

    The others ended by themselves: a slow answer was complete, or the client left.
    """
    kept: int = 0
    lost: int = 0
    others_crashed: int = 0
    """Processes that needed no conversion and crashed in changed code while it was watched."""
    pages: int = 0
    """Open LiveViews after a hot upgrade, and how many of them rendered with the new code."""
    pages_rendered: int = 0
    pages_failed: int = 0
    """Open LiveViews that the new code could not render; they keep the old page."""
    held: int = 0
    """Requests that the proxy answered by itself as it should: they did not reach the app."""
    held_by: str = ""
    https: bool = False
    """Whether the app redirected to HTTPS and was therefore probed as if over HTTPS."""
    samples: tuple[Sample, ...] = ()
    """The first requests, one by one."""

    def json(self) -> dict[str, Any]:
        """As it is recorded. Samples are kept beside the output (`deployment_log.py`)."""
        found = structs.asdict(self)
        del found["samples"]
        return found

    def __str__(self) -> str:
        failure = f" (the first: {self.first_failure})" if self.failed else ""
        said = [
            f"{self.failed} of {counted(self.requests, 'request')} failed{failure}",
            f"the slowest took {self.longest_ms:.0f} ms",
        ]
        if self.https:
            said.append("sent as if over HTTPS")
        if self.held:
            said.append(f"{self.held} answered by {self.held_by}")
        if self.cut:
            said.append(f"{counted(self.cut, 'connection')} closed after the drain")
        if self.processes:
            took = f" in {self.suspended_ms:.1f} ms" if self.suspended_ms is not None else ""
            said.append(f"{counted(self.processes, 'process')} converted{took}")
        if self.paused_ms:
            said.append(f"new requests paused for {self.paused_ms:.0f} ms")
        if self.kept:
            said.append(f"{counted(self.kept, 'connection')} kept")
        if self.lost:
            said.append(f"{counted(self.lost, 'connection')} cut")
        if self.others_crashed:
            said.append(f"{counted(self.others_crashed, 'other process')} crashed in the new code")
        if self.pages:
            said.append(
                f"{self.pages_rendered} of {counted(self.pages, 'open LiveView')} rendered again"
            )
        return ", ".join(said)


class HeldRequest:
    """A request to an instance that begins before a hot upgrade and ends after it.

    Its connection, and the process that serves it, must come through whole. The last line of the
    request is held back, so that it lasts as long as is wanted with any application.
    """

    def __init__(self, address: Address, host: str, path: str) -> None:
        self._address = (address.host, address.port)
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: gatling-probe\r\n"
        self._head = head.encode()
        self._socket: socket.socket | None = None
        self.began = 0.0
        """When it began, as time.monotonic() has it."""

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        with contextlib.suppress(OSError):  # `finish` reports it
            self._socket = socket.create_connection(self._address, REQUEST_SECONDS)
            self._socket.sendall(self._head)
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def finish(self) -> str:
        """Send the rest and take the answer: what went wrong, if anything."""
        if self._socket is None:
            return "held request: no connection"
        try:
            self._socket.sendall(b"Connection: close\r\n\r\n")
            with contextlib.closing(http.client.HTTPResponse(self._socket)) as response:
                response.begin()
                response.read()
                status = response.status
        except (OSError, http.client.HTTPException) as error:
            return f"held request: {health.unanswered(error)}"
        return f"held request: status {status}" if status >= 500 else ""


class Prober:
    """Asks for one path again and again, over one kept connection, in a thread of its own."""

    def __init__(
        self,
        address: Address,
        host: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        answered_by: Callable[[int], str] = lambda _status: "",
    ) -> None:
        """`answered_by` names the part of the proxy that gives a response with that status.

        A request that the app itself has not answered did not fail.
        """
        self._address, self._path = (address.host, address.port), path
        self._headers = {"Host": host, "User-Agent": "gatling-probe"} | dict(headers or {})
        self._answered_by = answered_by
        self._stop = threading.Event()
        self._answered = threading.Event()
        self._pause = PAUSE_SECONDS
        self._thread: threading.Thread | None = None
        self._counting = threading.Lock()
        self._requests = self._failed = 0
        self._longest = 0.0
        self._first_failure = ""
        self._held, self._held_by = 0, ""
        self._https = False
        self._first: float | None = None
        self._samples: list[Sample] = []

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Ask until the block has ended, and a little longer; the block begins with an answer."""
        self.start()
        try:
            self._answered.wait(FIRST_SECONDS)
            yield
            time.sleep(AFTER_SECONDS)
        finally:
            self.stop()

    def start(self) -> None:
        """Begin to ask."""
        self._thread = threading.Thread(target=self._ask_on, daemon=True)
        self._thread.start()

    def saw(self, problem: str, *, held_since: float | None = None) -> None:
        """Count one more request; with what went wrong, if anything.

        `held_since` is the beginning of a request that was held open. Its time is kept as well, but
        is not that of a client.
        """
        with self._counting:
            if held_since is not None:
                self._keep(held_since, time.monotonic() - held_since, problem, held=True)
            self._requests += 1
            if problem:
                self._failed += 1
                self._first_failure = self._first_failure or problem

    def slow_down(self) -> None:
        """Probe at long intervals from now on: the switch has been observed."""
        self._pause = SLOW_PAUSE_SECONDS

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(REQUEST_SECONDS + 1)

    @property
    def proof(self) -> Proof:
        """The report so far."""
        return Proof(
            self._requests,
            self._failed,
            round(self._longest * 1000, 1),
            self._first_failure,
            held=self._held,
            held_by=self._held_by,
            https=self._https,
            samples=tuple(sorted(self._samples)),
        )

    def _ask_on(self) -> None:
        connection, used = self._connect(), False
        self._first = time.monotonic()
        while not self._stop.is_set():
            started = time.monotonic()
            problem, reusable = self._ask(connection)
            if problem == health.NO_ANSWER and used:
                # nginx may close a connection that is idle, when it reloads for another app: a
                # client then asks again, and so does this one
                connection.close()
                connection = self._connect()
                problem, reusable = self._ask(connection)
            took = time.monotonic() - started
            self._longest = max(self._longest, took)
            self._keep(started, took, problem)
            self.saw(problem)
            self._answered.set()
            used = reusable
            if not reusable:
                connection.close()
                connection = self._connect()
            self._stop.wait(self._pause)
        connection.close()

    def _keep(self, started: float, took: float, problem: str, *, held: bool = False) -> None:
        if self._first is not None and len(self._samples) < SAMPLES:
            at_ms = round(1000 * (started - self._first), 1)
            self._samples.append(Sample(at_ms, round(1000 * took, 1), bool(problem), held))

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=REQUEST_SECONDS)

    def _ask(self, connection: http.client.HTTPConnection) -> tuple[str, bool]:
        """Ask once: what went wrong, if anything, and whether the connection can be used again."""
        try:
            response = self._answer(connection)
            if not self._https and health.wants_https(response):
                # on the same machine the proxy believes it, and the app answers as to a browser
                self._https = True
                self._headers |= health.BY_HTTPS
                if response.will_close:  # then by the next connection
                    return "", False
                response = self._answer(connection)
        except (OSError, http.client.HTTPException) as error:
            return health.unanswered(error), False
        by = self._answered_by(response.status)
        if by:
            self._held, self._held_by = self._held + 1, by
        elif response.status >= 500:
            return f"status {response.status}", not response.will_close
        return "", not response.will_close

    def _answer(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        connection.request("GET", self._path, headers=self._headers)
        response = connection.getresponse()
        response.read()
        return response
