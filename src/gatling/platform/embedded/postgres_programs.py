"""The PostgreSQL of the host: its versions, their programs, and what these are started with."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from gatling import process
from gatling.errors import MissingProgram
from gatling.platform.postgres.clusters import OLDEST


def installed() -> dict[int, Path]:
    """The directories of the programs of each version: Debian's, and the one on PATH."""
    found = {}
    for postgres in Path("/usr/lib/postgresql").glob("*/bin/postgres"):
        if (name := postgres.parents[1].name).isdecimal():
            found[int(name)] = postgres.parent
    if on_path := shutil.which("postgres"):
        shown = process.run([on_path, "--version"], timeout=30, check=False).text
        if number := re.search(r"PostgreSQL\) (\d+)", shown):
            found.setdefault(int(number[1]), Path(on_path).resolve().parent)
    return {version: place for version, place in found.items() if version >= OLDEST}


def program(version: int, name: str) -> Path:
    """The path of a program of a version. Raises MissingProgram."""
    place = installed().get(version)
    if place is None:
        raise MissingProgram(
            f"PostgreSQL {version} is not installed.",
            hint=f"On Debian and Ubuntu: `sudo apt install postgresql-{version}`.",
        )
    return place / name


def environment() -> dict[str, str]:
    """PostgreSQL's programs heed none of the user's variables."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "USER") if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8", "PGCONNECT_TIMEOUT": "10"}
