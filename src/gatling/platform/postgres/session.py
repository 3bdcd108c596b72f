"""A psql that stays open, so that several scripts run in one transaction."""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gatling import process
from gatling.errors import CommandFailed, TimedOut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

END_SECONDS = 10.0
_MARK = "gatling: end of a script"


class Session:
    """A psql with the options `--no-align`, `--tuples-only` and ON_ERROR_STOP."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        given, self._input = os.pipe()
        self._output, taken = os.pipe()
        self._data = b""
        try:
            self._process = process.start(
                argv, cwd=Path("/"), env=env, stdin=given, output=taken
            )  # fmt: skip
        except BaseException:
            os.close(self._input)
            os.close(self._output)
            raise
        finally:
            os.close(given)
            os.close(taken)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        with contextlib.suppress(OSError):
            os.close(self._input)
        with contextlib.suppress(OSError):
            os.close(self._output)
        try:
            self._process.wait(0 if kind else END_SECONDS)
        except Exception:  # noqa: BLE001 (of whatever kind: it is ended)
            self._process.kill()
            self._process.wait()

    def ask(self, script: str, seconds: float) -> list[str]:
        """Run a script; the lines that it printed. Raises CommandFailed and TimedOut."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(BrokenPipeError):  # its end says more
            _write_all(self._input, f"{script}\\echo '{_MARK}'\n".encode())
        end = f"{_MARK}\n".encode()
        while not self._data.endswith(end):
            ready, _, _ = select.select([self._output], [], [], deadline - time.monotonic())
            if not ready:
                raise TimedOut(f"psql gave no answer within {seconds:g} seconds.")
            piece = os.read(self._output, 1 << 16)
            if not piece:
                said = self._data.decode("utf-8", "replace").splitlines()[-process.TAIL_LINES :]
                raise CommandFailed("A query failed.", log=said)
            self._data += piece
        found, self._data = self._data[: -len(end)], b""
        return found.decode("utf-8", "surrogateescape").splitlines()


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
