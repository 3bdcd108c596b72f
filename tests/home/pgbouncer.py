"""A PgBouncer for tests: that of the machine, or Debian's, which is fetched and not installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.fetched import unpacked

LIBRARIES = ("libc-ares2", "libevent-2.1-7")


def directory(root: Path) -> str:
    """The directory of a program `pgbouncer`."""
    if found := shutil.which("pgbouncer", path="/usr/sbin:/usr/bin"):
        return str(Path(found).parent)
    program = unpacked("pgbouncer", "bookworm") / "usr/sbin/pgbouncer"
    found_in = {str(library.parent) for package in LIBRARIES
                for library in unpacked(package, "bookworm").glob("usr/lib/*/*.so.*")}  # fmt: skip
    script = root / "pgbouncer"
    script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={":".join(found_in)} exec {program} "$@"\n')
    script.chmod(0o755)
    return str(root)
