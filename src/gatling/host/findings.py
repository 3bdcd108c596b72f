"""The result of a check, and the ways in which checks look at this host without a change."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from gatling import process
from gatling.errors import GatlingError
from gatling.host.backup import acting_as
from gatling.paths import SERVER
from gatling.state import apps
from gatling.state.database import Database

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.state.apps import App

Result = TypeVar("Result")
REINSTALL = "`gatling server install` fixes it."


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check."""

    name: str
    ok: bool
    what: str
    hint: str = ""


Check = Callable[[], Iterable[Finding]]


def records(server: Path = SERVER) -> list[App]:
    """All apps, read as gatling and without a change."""
    return read(server, apps.every)


def read(server: Path, query: Callable[[Database], Result]) -> Result:
    """The answer of the records, read as gatling. Raises PermissionError for other users."""
    home = server / "home"
    if os.geteuid() not in (0, home.stat().st_uid):
        raise PermissionError
    with acting_as(home.stat()):
        url = f"{(home / 'state.db').as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(url, uri=True, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return query(Database(connection))


def says(*argv: str) -> str:
    """The last line of what a program says, whatever its exit status; "" when it is not there."""
    with contextlib.suppress(GatlingError):
        return (process.run(argv, timeout=30, check=False).tail or ("",))[-1].strip()
    return ""


def search_path() -> str:
    """The PATH on which a check looks for programs: that of root as well."""
    return f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/sbin:/sbin"
