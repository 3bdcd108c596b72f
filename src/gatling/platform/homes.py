"""The home that a command works with: where it is, of which kind, and how it comes to exist."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files
from gatling.errors import InvalidInput
from gatling.paths import SERVER, default_root

if TYPE_CHECKING:
    from gatling.paths import Home

SOCKET_PATH_LIMIT = 107 - len(".4194304")
"""Bytes that the path of a unix socket may have: sun_path in unix(7), less its final NUL, and less
the process id that supervisord adds while it binds."""


def find_home(root: Path | None = None) -> Home:
    """The home at `root` (default: `default_root()`), which need not exist.

    Raises InvalidInput for a path that cannot hold one.
    """
    path = Path(os.path.abspath(root or default_root()))  # noqa: PTH100 (links are kept as they are)
    if is_server(path):
        from gatling.platform.server.home import ServerHome

        return ServerHome(path)
    from gatling.platform.embedded.home import EmbeddedHome

    home = EmbeddedHome(path)
    if len(os.fsencode(home.supervisor_socket)) > SOCKET_PATH_LIMIT:
        raise InvalidInput(
            f"The path of the home is too long for a unix socket: {path}",
            hint="Set GATLING_HOME to a shorter path (up to 77 characters).",
        )
    if any(c in str(path) for c in "\n\r\0\"'\\$;{}%#"):
        raise InvalidInput(
            f"The path of the home has a character that nginx does not accept: {str(path)!r}",
            hint="Set GATLING_HOME to a path of letters, digits, blanks, '.', '_' and '-'.",
        )
    return home


def open_home(root: Path | None = None) -> Home:
    """The home at `root` (default: `default_root()`), created when it does not exist.

    Raises InvalidInput for a path that cannot hold one.
    """
    home = find_home(root)
    path = home.root
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in home.directories:
            (path / directory).mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InvalidInput(f"The home is not a directory: {path}") from None
    except OSError as error:
        raise InvalidInput(f"The home cannot be written: {path}: {error.strerror}.") from None
    _write_command(home)
    return home


def is_missing(home: Home) -> bool:
    """Whether a home certainly does not exist; any other problem is reported when it is opened."""
    try:
        home.database.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _write_command(home: Home) -> None:
    """(Re)write bin/gatling when this installation is not the one it calls."""
    text = (
        "#!/bin/sh\n"
        "# Runs the Gatling installation that this home belongs to. Written by it.\n"
        # without dirname(1): this runs for each push and each job
        'here=${0%/*}; [ "$here" != "$0" ] || here=.\n'
        'GATLING_HOME=$(CDPATH="" cd "$here/.." && pwd) || exit 1\n'
        "export GATLING_HOME\n"
        # -I: neither the directory nor the pusher's PYTHON* variables may add code
        f'exec {shlex.quote(sys.executable)} -I -m gatling "$@"\n'
    )
    try:
        if home.command.read_text() == text:
            return
    except OSError:
        pass
    files.write(home.command, text, mode=0o700)


def is_server(root: Path) -> bool:
    """Whether a home is that of a server: installed by root, kept by systemd."""
    return root == SERVER / "home"
