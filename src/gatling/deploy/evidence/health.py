"""Waiting until a new instance is healthy, and saying why it is not."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import names, proc
from gatling.errors import UnhealthyRelease
from gatling.text import listed

if TYPE_CHECKING:
    import http.client
    from collections.abc import Sequence

    from gatling.platform.base import Address, Status
    from gatling.platform.interface import Reachable
    from gatling.project.settings import Health
    from gatling.state.apps import App

ATTEMPT_SECONDS = 5.0
HEALTHY_BELOW = 500
REDIRECTS = (301, 302, 303, 307, 308)
BY_HTTPS = {"X-Forwarded-Proto": "https"}
"""The headers by which the app knows that a request came over HTTPS."""
NO_ANSWER = "it closed the connection without an answer"
TELLING_SECONDS = 0.25
"""A check that has less time than this and gets no answer says nothing of the instance."""
SLOWEST_SECONDS = 0.5
"""Longest pause between two checks of an instance that answers, though with an error."""
STATUS_SECONDS = 0.5
"""Longest time between two looks at the status of an instance whose process is there.

To ask for a status costs more than a check of a port where nothing listens yet.
"""
ENDING_SECONDS = 0.02
"""Until the status of an instance whose process has just ended is asked for again."""


class Answer(Struct, frozen=True):
    """The result of one check: an HTTP status, or the reason why there was none."""

    status: int | None
    problem: str = ""
    to_https: bool = False
    """Whether the answer only sends the client to https."""
    refused: bool = False
    """Whether nothing listens on the port."""
    stranger: bool = False
    """Whether it was not, or not surely, the app that answered."""

    @property
    def healthy(self) -> bool:
        """Any HTTP answer below 500."""
        return self.status is not None and self.status < HEALTHY_BELOW

    def __str__(self) -> str:
        return f"it answered {self.status}" if self.status else self.problem


def wants_https(response: http.client.HTTPResponse) -> bool:
    """Whether an answer only sends the client to https, as Phoenix' `force_ssl` does.

    It says nothing of the app then: it is given before any page is made.
    """
    location = response.getheader("Location", "")
    return response.status in REDIRECTS and location.lower().startswith("https://")


def check(instances: Reachable, app: App, slot: int, path: str, timeout: float) -> Answer:
    """Ask an instance once, as the proxy would; as if over HTTPS, too, if it redirects to HTTPS.

    No other user may listen on the port: requests of an app's users must not reach a stranger.
    """
    address, host = instances.address(app, slot), names.host(app.primary_domain)
    started = time.monotonic()
    answer = _ask(address, path, host, timeout, {})
    if answer.to_https:
        left = max(0.05, timeout - (time.monotonic() - started))
        answer = _ask(address, path, host, left, BY_HTTPS)
    if answer.healthy and instances.is_intruded(app, slot):
        what = f"another user of this machine listens on port {address.port}"
        return Answer(None, what, stranger=True)
    return answer


def sends_to_https(address: Address, path: str, host: str) -> bool:
    """Whether an instance sends a client to https that came without."""
    return _ask(address, path, host, ATTEMPT_SECONDS, {}).to_https


def _ask(address: Address, path: str, host: str, timeout: float, more: dict[str, str]) -> Answer:
    import http.client  # takes a while, and many commands check nothing

    connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
    try:
        connection.connect()  # first: no request is made up while nothing listens
        headers = {"Host": host, "User-Agent": "gatling-health-check", "Connection": "close"}
        connection.request("GET", path, headers=headers | more)
        response = connection.getresponse()
        return Answer(response.status, to_https=wants_https(response))
    except ConnectionRefusedError:
        return Answer(None, f"nothing listens on port {address.port}", refused=True)
    except TimeoutError:
        return Answer(None, f"it took the connection but did not answer within {timeout:.1f} s")
    except (OSError, http.client.HTTPException) as error:
        return Answer(None, unanswered(error))
    finally:
        connection.close()


def unanswered(error: OSError | http.client.HTTPException) -> str:
    """Why there was no answer, in words."""
    import http.client

    match error:
        case http.client.RemoteDisconnected():
            return NO_ANSWER
        case ConnectionResetError() | BrokenPipeError():
            return "it reset the connection"
        case http.client.IncompleteRead():
            return "it closed the connection in the middle of its answer"
        case http.client.HTTPException():
            return "its answer was not HTTP"
        case TimeoutError():
            return "it did not answer in time"
        case _:
            return f"the connection failed: {error.strerror or error}"


class StillBootsError(Exception):
    """An instance does not answer yet, and has time left to do so."""


def wait_healthy(
    instances: Reachable,
    app: App,
    slot: int,
    settings: Health,
    process: str | None = None,
    *,
    since: float | None = None,
    patience: float = math.inf,
) -> str | None:
    """Wait until the instance answers; returns what runs there, as Status.process names it.

    Raises UnhealthyRelease when it exits or the time is up, which counts from `since` (monotonic).
    With `process`, it must still be that. Raises StillBootsError after `patience` seconds.
    """
    began = time.monotonic()
    deadline = (began if since is None else since) + settings.timeout
    port = instances.address(app, slot).port
    said: Answer | None = None
    pause = settings.interval
    looked = _Look(instances, app.name, slot)
    while True:
        now = looked.status()
        process = process or now.process
        if not now.up or now.process != process:
            raise UnhealthyRelease(
                "The new release exited at boot.",
                hint="Its last lines are above.",
            )
        limit = max(0.05, min(ATTEMPT_SECONDS, deadline - time.monotonic()))
        answer = check(instances, app, slot, settings.path, limit)
        if answer.stranger:
            raise UnhealthyRelease(
                f"Another user of this machine listens on port {port}.",
                hint="The port is the app's: end that process, then try again.",
            )
        if answer.healthy:
            return process
        if said is None or answer.status is not None or limit >= TELLING_SECONDS:
            said = answer  # a last check that had hardly any time shows less than the one before
        left = deadline - time.monotonic()
        if left <= 0:
            elsewhere = instances.listening(app, slot) if said.refused else []
            but = f", the app listens on {listed(elsewhere)}" if elsewhere else ""
            raise UnhealthyRelease(
                f"The new release did not become healthy within {settings.timeout:g} s:"
                f" GET {settings.path}: {said}{but}.",
                hint=_hint(said, port, elsewhere),
            )
        if time.monotonic() - began >= patience:
            raise StillBootsError
        looked.sleep(min(pause, left, max(0.0, began + patience - time.monotonic())))
        if answer.status is not None:  # it logs each of these
            pause = min(max(settings.interval, SLOWEST_SECONDS), pause * 1.5)


class _Look:
    """The status of an instance, asked for again when its process ends, and now and then."""

    def __init__(self, instances: Reachable, app: str, slot: int) -> None:
        self._instances, self._app, self._slot = instances, app, slot
        self._known: Status | None = None
        self._until = 0.0

    def status(self) -> Status:
        """Return the status as of now."""
        if self._known is None or time.monotonic() >= self._until:
            self._known = self._instances.status(self._app, self._slot)
            self._until = time.monotonic() + STATUS_SECONDS
        return self._known

    def sleep(self, seconds: float) -> None:
        """Sleep for so long, or until the process has ended."""
        pid = self._known.pid if self._known is not None else None
        if pid is None:
            self._known = None
            time.sleep(seconds)
        elif proc.wait_gone(pid, seconds):
            self._known = None
            time.sleep(min(seconds, ENDING_SECONDS))


def _hint(answer: Answer, port: int, elsewhere: Sequence[str]) -> str:
    if any(where.endswith(f":{port}") for where in elsewhere):
        return "nginx connects to 127.0.0.1: in Phoenix, `http: [ip: {0, 0, 0, 0}, …]`."
    if answer.refused:
        return (
            "The app must listen on the TCP port that the variable PORT names. If it boots slowly,"
            " raise health.timeout."
        )
    return "The path and the time limit are the settings health.path and health.timeout."
