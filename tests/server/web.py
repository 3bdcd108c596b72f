"""HTTP into a box, from the bed's network."""

from __future__ import annotations

import http.client
import threading
import time
from typing import TYPE_CHECKING, Self

from tests.conftest import PAUSE_SECONDS, Answer, until

if TYPE_CHECKING:
    from tests.server.network import Lan


class LanConnection(http.client.HTTPConnection):
    """An HTTP connection that is opened in the bed's network, from any thread."""

    def __init__(self, lan: Lan, ip: str, port: int = 80, timeout: float = 10) -> None:
        super().__init__(ip, port, timeout=timeout)
        self._lan, self._seconds = lan, timeout

    def connect(self) -> None:
        self.sock = self._lan.connect(self.host, self.port, self._seconds)

    def ask(
        self,
        path: str = "/",
        *,
        host: str = "localhost",
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: str | None = None,
    ) -> Answer:
        """An answer, read to its end."""
        self.request(method, path, body, {"Host": host} | (headers or {}))
        response = self.getresponse()
        return Answer(response.status, response.headers, response.read().decode(errors="replace"))


class Client:
    """Asks again and again in threads, and keeps what failed: anything but a 200.

    With `kept` each thread has one connection, as a browser has, and opens another only when it is
    told to (`Connection: close`): one that is closed in between is a failure. Otherwise each
    request has a connection of its own.
    """

    def __init__(
        self,
        lan: Lan,
        ip: str,
        *,
        host: str = "localhost",
        path: str = "/",
        port: int = 80,
        threads: int = 1,
        kept: bool = False,
        pause: float = PAUSE_SECONDS,
        timeout: float = 10,
    ) -> None:
        self._lan, self._ip, self._port, self._timeout = lan, ip, port, timeout
        self._host, self._path = host, path
        self._kept, self._pause = kept, pause
        self.failures: list[str] = []
        self.texts: list[str] = []
        self.longest = 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: self.texts or self.failures, "the first answer", 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = LanConnection(self._lan, self._ip, self._port, self._timeout)
        try:
            while not self._stop.wait(self._pause):
                self._ask(connection)
                if not self._kept:
                    connection.close()
        finally:
            connection.close()

    def _ask(self, connection: LanConnection) -> None:
        begun = time.monotonic()
        try:
            answer = connection.ask(self._path, host=self._host)
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"{time.strftime('%T')} {error!r}")
            connection.close()
            return
        self.longest = max(self.longest, time.monotonic() - begun)
        if answer.status == 200:
            self.texts.append(answer.text)
        else:
            self.failures.append(f"{time.strftime('%T')} {answer.status}")
