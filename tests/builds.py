"""What the first build of the example has made, for the first builds of other apps.

A build takes 0.8 s of CPU with each app that tests make from the example. The first one is kept:
its directory, the release, and what mix has printed. A push of the same commit to another app then
takes the release, by way of the same steps, and starts no VM (`reuse`). That is for pushes whose
hook is forked (tests/warm.py), in tests that are not about builds.

The builds that follow in such an app are real. mix sees that nothing has changed in the directory,
since the files keep their times and the checkout finds them as it would leave them: it belongs to a
commit with which all of these projects begin. mix compiles again whatever has changed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling.beam import toolbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatling.platform.base import Surroundings

BUILDS = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatling" / "test-builds"
)
PARTS = ("source", "git")
"""Of the directory of an app's builds: the work tree with mix's caches, and its git directory."""
RELEASE, SAID = "release", "said.json"
"""What is kept beside them: the release as mix has assembled it, and the lines of the output."""
SHARING = "shares-{app}"
"""In the directory of a home: a file with the name by which the first build of an app is kept."""
MARKER = "@kept"
"""Stands in kept lines for the marker of a build's own lines."""
DATES = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), "2026-01-01T00:00:00Z")
"""Variables that give the same commit to the same files."""


@functools.cache
def _toolchain() -> str:
    """A digest of what builds: Gatling's code for builds and nodes, and the programs they run."""
    build = Path(toolbox.__file__).parents[1] / "build"
    digest = hashlib.sha256(toolbox.digest().encode())
    for file in sorted(build.rglob("*.*")):
        if file.suffix in (".py", ".ex", ".exs"):
            digest.update(file.read_bytes())
    for program in ("elixir", "erl", "git"):
        real = os.path.realpath(shutil.which(program) or program)
        digest.update(f"{real} {os.stat(real).st_mtime_ns}\n".encode())  # noqa: PTH116
    return digest.hexdigest()[:16]


def share(home: Path, app: str, commit: str) -> str:
    """Let the first build of an app, that of a commit, share with others; the name of what is kept.

    Nothing is kept for the very first one, which is kept then (`keep`).
    """
    name = f"{_toolchain()}-{commit}"
    (home.parent / SHARING.format(app=app)).write_text(name)
    _give(home / "apps" / app / "build", name)
    return name


def keep(home: Path, app: str, name: str) -> None:
    """Keep what a build has made, unless that of this name is there already."""
    built = home.parent / name
    if (BUILDS / name).exists() or not built.exists():
        return
    partial = BUILDS / f".{name}.{os.getpid()}.{threading.get_ident()}"
    shutil.copytree(built, partial, symlinks=True)
    for part in PARTS:
        shutil.copytree(home / "apps" / app / "build" / part, partial / part, symlinks=True)
    with contextlib.suppress(OSError):  # another process was quicker
        partial.rename(BUILDS / name)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(built)


def _give(build: Path, name: str) -> None:
    """Give an app that has not been built the directory of a build; nothing if none is kept."""
    kept = BUILDS / name
    if not kept.exists() or any((build / part).exists() for part in PARTS):
        return
    for part in PARTS:
        shutil.copytree(kept / part, build / part, symlinks=True)
    subprocess.run(  # or the checkout would write all of them
        ["git", f"--git-dir={build / 'git'}", f"--work-tree={build / 'source'}",
         "-c", "core.bare=false", "update-index", "-q", "--refresh"], check=True,
    )  # fmt: skip


def reuse() -> None:
    """In a process that forks commands: have them use the releases that are kept."""
    from gatling.build import builder
    from gatling.build.steps import Steps
    from gatling.deploy import early
    from gatling.project.settings import Build

    build, start = builder.build, early.start

    def started(gatling: Any, app: Any, commit: str, mark: str) -> Any:
        name = _shared(app.name, commit)
        return None if name and (BUILDS / name).exists() else start(gatling, app, commit, mark)

    def built(
        tasks: Any, around: Surroundings, config: Mapping[str, str], settings: Build, mark: str,
        watcher: Any, commit: str, previous: Path | None, callbacks: Any, early: Any,
    ) -> builder.Built:  # fmt: skip
        everything = (
            tasks, around, config, settings, mark, watcher, commit, previous, callbacks, early
        )  # fmt: skip
        paths = around.paths
        name = _shared(paths.name, commit)
        if not name or settings != Build() or callbacks or around.pinned:
            return build(*everything)
        if not (BUILDS / name).exists():
            lines: list[str] = []

            class Kept(Steps):
                def line(self, text: str) -> None:
                    lines.append(text.replace(self.marker, MARKER))
                    super().line(text)

            builder.Steps = Kept  # type: ignore[attr-defined]
            made = build(*everything)
            target = paths.home.parent / name
            shutil.copytree(made.tree, target / RELEASE, symlinks=True)
            (target / SAID).write_text(json.dumps(lines))
            return made
        if early is not None:
            early.close()
        steps = Steps(MARKER, watcher)
        tasks.discard(paths, paths.staging)
        subprocess.run(["cp", "-a", BUILDS / name / RELEASE, paths.staging], check=True)
        for line in json.loads((BUILDS / name / SAID).read_text()):
            steps.line(line)
        return builder._inspect(tasks.staged(paths, previous), steps.facts)

    early.start, builder.build = started, built  # type: ignore[assignment]


def _shared(app: str, commit: str) -> str | None:
    """The name by which the build of a commit is kept, if this home shares it."""
    file = Path(os.environ["GATLING_HOME"]).parent / SHARING.format(app=app)
    try:
        name = file.read_text()
    except OSError:
        return None
    return name if name.endswith(f"-{commit}") else None
