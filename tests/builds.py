"""What the first build of the example has compiled, for the first builds of other apps.

That takes 0.4 s of CPU with each app that tests make from it. mix sees that nothing has changed,
since the files keep their times and the checkout finds them as it would leave them: it belongs to
a commit with which all of these projects begin. mix compiles again whatever has changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from pathlib import Path

BUILDS = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatling" / "test-builds"
)
PARTS = ("source", "git")
"""Of the directory of an app's builds: the work tree with mix's caches, and its git directory."""
DATES = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), "2026-01-01T00:00:00Z")
"""Variables that give the same commit to the same files."""


def keep(build: Path, name: str) -> None:
    """Keep what a build has compiled, unless that of this name is there already."""
    if (BUILDS / name).exists():
        return
    partial = BUILDS / f".{name}.{os.getpid()}.{threading.get_ident()}"
    for part in PARTS:
        shutil.copytree(build / part, partial / part, symlinks=True)
    with contextlib.suppress(OSError):  # another process was quicker
        partial.rename(BUILDS / name)
    shutil.rmtree(partial, ignore_errors=True)


def give(build: Path, name: str) -> None:
    """Give it to an app that has not been built; nothing if none is kept."""
    kept = BUILDS / name
    if not kept.exists() or any((build / part).exists() for part in PARTS):
        return
    for part in PARTS:
        shutil.copytree(kept / part, build / part, symlinks=True)
    subprocess.run(  # or the checkout would write all of them
        ["git", f"--git-dir={build / 'git'}", f"--work-tree={build / 'source'}",
         "-c", "core.bare=false", "update-index", "-q", "--refresh"], check=True,
    )  # fmt: skip
