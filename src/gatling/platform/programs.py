"""Where the programs are that Gatling starts for apps: elixir, mix, and what their builds run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatling.paths import AppPaths

TOOLCHAINS = Path("/etc/gatling/toolchains")
"""On a server: directories, or links, named after an app or `default`, whose bin/ goes first."""
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def program_path(paths: AppPaths) -> str:
    """PATH without what git adds to it for its hooks.

    On a server: the system's PATH, after the toolchain that root has installed for the app or for
    all apps.
    """
    if paths.server:
        own = [TOOLCHAINS / name / "bin" for name in (paths.name, "default")]
        found = [str(directory) for directory in own if directory.is_dir()]
        return ":".join([*found[:1], SYSTEM_PATH])
    directories = os.environ.get("PATH", os.defpath).split(":")
    return ":".join(dict.fromkeys(d for d in directories if Path(d).name != "git-core"))
