"""Gatling's code for nodes and builds, which each app of a server compiles for itself.

That takes 2 s of CPU with the first push to each app, so tests compile it once for all of them, and
put it where the app's build would, with the script with which builds start. It is the same that
homes of other tests share.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

from gatling.beam import toolbox
from tests.conftest import BEAMS, share

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def keep(build: Path) -> None:
    """Keep what the builds of an app have compiled; `build` is their directory."""
    name = f"beam-{toolbox.digest()}"
    share(build / "cache" / name, BEAMS / name)


def give(root: Path, build: Path, push: subprocess.Popen[str]) -> None:
    """Give the builds of an app that a push creates what others have compiled.

    The build compiles it itself when it is quicker. `root` is the file system of the box.
    """
    kept = BEAMS / f"beam-{toolbox.digest()}"
    owner = None
    while kept.exists() and push.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            owner = build.stat()
        if owner is not None and owner.st_uid != 0:  # root makes it, and gives it to the app
            break
        time.sleep(0.02)
    else:
        return
    new = build / ".cache.new"
    with contextlib.suppress(OSError):  # the build was quicker, or the app is removed again
        known_as = "/" / build.relative_to(root) / "cache" / kept.name
        share(kept, new / kept.name, root=root, known_as=known_as)
        for directory, _, files in os.walk(new):
            for path in (directory, *(f"{directory}/{file}" for file in files)):
                os.chown(path, owner.st_uid, owner.st_gid)
        new.rename(build / "cache")
    shutil.rmtree(new, ignore_errors=True)
