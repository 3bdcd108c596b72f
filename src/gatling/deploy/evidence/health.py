"""Waiting until a new instance is healthy, and saying why it is not."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatling.errors import UnhealthyRelease
from gatling.platform import ports
from gatling.text import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatling.platform.base import Status
    from gatling.project.settings import Health

ATTEMPT_SECONDS = 5.0
HEALTHY_BELOW = 500
REDIRECTS = (301, 302, 303, 307, 308)
BY_HTTPS = {"X-Forwarded-Proto": "https"}
"""What a proxy says to the app of a request that came by https."""
NO_ANSWER = "it closed the connection without an answer"
TELLING_SECONDS = 0.25
"""A check that has less time than this and gets no answer says nothing of the instance."""
SLOWEST_SECONDS = 0.5
"""Longest pause between two checks of an instance that answers, though with an error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one check saw: an HTTP status, or why there was none."""

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


def check(port: int, path: str, host: str, timeout: float, user: int | None = None) -> Answer:
    """Ask an instance once, as the proxy would; by https, too, where it is told to come by that.

    With `user`, nobody else may listen there: what users send an app is not for whoever was quicker
    to take its port.
    """
    started = time.monotonic()
    answer = _ask(port, path, host, timeout, {})
    if answer.to_https:
        left = max(0.05, timeout - (time.monotonic() - started))
        answer = _ask(port, path, host, left, BY_HTTPS)
    if answer.healthy and user is not None and ports.listeners(port) - {user}:
        what = f"another user of this machine listens on port {port}"
        return Answer(None, what, stranger=True)
    return answer


def sends_to_https(port: int, path: str, host: str) -> bool:
    """Whether an instance sends a client to https that came without."""
    return _ask(port, path, host, ATTEMPT_SECONDS, {}).to_https


def _ask(port: int, path: str, host: str, timeout: float, more: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        headers = {"Host": host, "User-Agent": "gatling-health-check", "Connection": "close"}
        connection.request("GET", path, headers=headers | more)
        response = connection.getresponse()
        return Answer(response.status, to_https=wants_https(response))
    except ConnectionRefusedError:
        return Answer(None, f"nothing listens on port {port}", refused=True)
    except TimeoutError:
        return Answer(None, f"it took the connection but did not answer within {timeout:.1f} s")
    except (OSError, http.client.HTTPException) as error:
        return Answer(None, unanswered(error))
    finally:
        connection.close()


def unanswered(error: OSError | http.client.HTTPException) -> str:
    """Why there was no answer, in words."""
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


def wait_healthy(
    *,
    port: int,
    host: str,
    settings: Health,
    status: Callable[[], Status],
    pid: int | None = None,
    user: int | None = None,
    node_port: int | None = None,
) -> int | None:
    """Wait until the instance answers: its pid. UnhealthyRelease when it exits or the time is up.

    `status` asks the supervisor about the instance; with `pid`, it must still be that process.
    `user` is as for `check`. `node_port` is where Erlang's distribution listens.
    """
    started = time.monotonic()
    deadline = started + settings.timeout
    said: Answer | None = None
    pause = settings.interval
    while True:
        now = status()
        pid = pid or now.pid
        if not now.up or now.pid != pid:
            raise UnhealthyRelease(
                "The new release exited at boot.",
                hint="Its last lines are above.",
            )
        limit = max(0.05, min(ATTEMPT_SECONDS, deadline - time.monotonic()))
        answer = check(port, settings.path, host, limit, user)
        if answer.stranger:
            raise UnhealthyRelease(
                f"Another user of this machine listens on port {port}.",
                hint="The port is the app's: end that process, then try again.",
            )
        if answer.healthy:
            return pid
        if said is None or answer.status is not None or limit >= TELLING_SECONDS:
            said = answer  # a last look that had hardly any time tells less than the one before
        left = deadline - time.monotonic()
        if left <= 0:
            elsewhere = _elsewhere(pid, user, node_port) if said.refused else []
            but = f", the app listens on {listed(elsewhere)}" if elsewhere else ""
            raise UnhealthyRelease(
                f"The new release did not become healthy within {settings.timeout:g} s:"
                f" GET {settings.path}: {said}{but}.",
                hint=_hint(said, port, elsewhere),
            )
        time.sleep(min(pause, left))
        if answer.status is not None:  # it logs each of these
            pause = min(max(settings.interval, SLOWEST_SECONDS), pause * 1.5)


def _elsewhere(pid: int | None, user: int | None, node_port: int | None) -> list[str]:
    """Where an instance listens, Erlang's distribution left out."""
    found = ports.listening(pid, user) if pid is not None else []
    return [where for where in found if not where.endswith(f":{node_port}")]


def _hint(answer: Answer, port: int, elsewhere: Sequence[str]) -> str:
    if any(where.endswith(f":{port}") for where in elsewhere):
        return "nginx connects to 127.0.0.1: in Phoenix, `http: [ip: {0, 0, 0, 0}, …]`."
    if answer.refused:
        return "The app must listen on the TCP port that the variable PORT names."
    return "The path and the time limit are the settings health.path and health.timeout."
