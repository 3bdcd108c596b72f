"""Making a Debian or Ubuntu machine a Gatling host, as root.

The installation is a list of changes (`gatling.host.changes`). Each of them knows whether it is
needed, so the list can be printed first and carried out again.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gatling.errors import InvalidInput
from gatling.host.changes import changes, needed
from gatling.host.machine import OLDEST_SYSTEMD, exposed, placed, systemd_version
from gatling.platform.server.helper import service

if TYPE_CHECKING:
    from collections.abc import Callable


def install(say: Callable[[str], None], *, manual: str, dry_run: bool) -> int:
    """Bring about what is missing, or only say it; how many changes that are.

    `manual` is the text of the manual page. Raises InvalidInput for a machine or an
    installation of Gatling that is not fit for it.
    """
    _fit()
    done = 0
    for change in needed(changes(manual)):
        say(f"{'would: ' if dry_run else ''}{change.what}")
        done += 1
        if not dry_run:
            change.make()
    return done


def _fit() -> None:
    if os.geteuid() != 0:
        raise InvalidInput("This needs root.", hint="`sudo gatling server install`")
    if not shutil.which("apt-get"):
        raise InvalidInput("This is neither Debian nor Ubuntu: there is no apt-get.")
    version = systemd_version()
    if version < OLDEST_SYSTEMD:
        raise InvalidInput(
            f"systemd {OLDEST_SYSTEMD} or newer must run this machine; it is {version or 'not'}.",
            hint="Debian 12, Ubuntu 22.10 or newer have it.",
        )
    for path in (Path(str(service.__file__)), Path(sys.executable).parent):
        part = exposed(placed(path))
        if part is not None:
            raise InvalidInput(
                f"Root's helper cannot run from this installation: {part} is writable by users"
                " other than root, or not readable by all.",
                hint="Run bin/install from a clone: it installs below /opt, for root alone."
                " A package needs an environment there: python3 -m venv /opt/gatling-package",
            )
