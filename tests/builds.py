"""What the first build of the example has made, for the first builds of other apps.

A build takes 0.8 s of CPU with each app that tests make from the example. The first one is kept:
its directory, the release, and what mix has printed. A push of the same commit to another app then
takes the release, by way of the same steps, and starts no VM (`reuse`). That is for pushes whose
hook is forked (tests/warm.py), in tests that are not about builds.

So does a push to the same app whose only change is gatling.toml or `domains`, which mix does not
read: it takes the release that was built from the same sources. All other builds of such an app are
real, also of a commit that has been built before. mix sees that nothing has changed in the
directory, since the files keep their times and the checkout finds them as it would leave them: it
belongs to a commit with which all of these projects begin. mix compiles again whatever has changed.
"""

from __future__ import annotations

import contextlib
import filecmp
import functools
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling.beam import toolbox
from gatling.platform.embedded import headstart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatling.paths import AppPaths
    from gatling.platform.base import Surroundings

BUILDS = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatling" / "test-builds"
)
PARTS = ("source", "git")
"""Of the directory of an app's builds: the work tree with mix's caches, and its git directory."""
RELEASE, SAID, LINKS = "release", "said.json", "links.json"
"""What is kept beside them: the release as mix has assembled it, the lines of the output, and the
files of the release that were hard links to files of its home."""
SHARING = "shares-{app}"
"""In the directory of a home: a file with the name by which the first build of an app is kept."""
BUILT = "built-{app}"
"""There, too: what has been built for the app, a line for each build."""
STORED = """
    SELECT number FROM releases WHERE app = ? AND commit_id = ? AND origin = 'build'
    AND removed_at IS NULL ORDER BY number DESC LIMIT 1
"""
MARKER = "@kept"
"""Stands in kept lines for the marker of a build's own lines."""
DATES = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), "2026-01-01T00:00:00Z")
"""Variables that give the same commit to the same files."""


@functools.cache
def _toolchain() -> str:
    """A digest of what builds: Gatling's code for builds and nodes, and the programs they run.

    And of this file, which decides what is kept.
    """
    build = Path(toolbox.__file__).parents[1] / "build"
    digest = hashlib.sha256(toolbox.digest().encode() + Path(__file__).read_bytes())
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

    def started(gatling: Any, app: Any, commit: str, mark: str, waiting: Any = None) -> Any:
        found = _found(gatling.home.app(app.name), commit)
        return None if found else start(gatling, app, commit, mark, waiting)

    def built(
        tasks: Any, around: Surroundings, config: Mapping[str, str], settings: Build, mark: str,
        watcher: Any, commit: str, previous: Path | None, callbacks: Any, early: Any, branches: Any,
    ) -> builder.Built:  # fmt: skip
        paths, lines = around.paths, []
        name = _name(paths)
        found = _found(paths, commit)
        if not found or settings != Build() or callbacks or around.pinned:

            class Kept(Steps):
                def line(self, text: str) -> None:
                    lines.append(text.replace(self.marker, MARKER))
                    super().line(text)

            builder.Steps = Kept  # type: ignore[attr-defined]
            made = build(
                tasks, around, config, settings, mark, watcher, commit, previous, callbacks, early,
                branches,
            )  # fmt: skip
            if name.endswith(f"-{commit}") and not (BUILDS / name).exists():
                target = paths.home.parent / name
                shutil.copytree(made.tree, target / RELEASE, symlinks=True)
                (target / SAID).write_text(json.dumps(lines))
                (target / LINKS).write_text(json.dumps(_links(paths, made.tree)))
        else:
            if early is not None:
                early.close()
            tree, lines = found
            steps = Steps(MARKER, watcher)
            tasks.discard(paths, paths.staging)
            if tree.is_relative_to(paths.home):
                subprocess.run(["cp", "-al", tree, paths.staging], check=True)
            else:
                subprocess.run(["cp", "-a", tree, paths.staging], check=True)
                _link(paths, tree.parent)
            for line in lines:
                steps.line(line)
            made = builder._inspect(tasks.staged(paths, previous), steps.facts)
        if name:
            records = paths.home.parent / BUILT.format(app=paths.name)
            whole, sources = _trees(paths, commit)
            record = {"commit": commit, "whole": whole, "sources": sources, "lines": lines}
            with records.open("a") as file:
                file.write(json.dumps(record) + "\n")
        return made

    early.start, builder.build = started, built  # type: ignore[assignment]
    # it might start a VM that is not needed
    headstart.noted = lambda root, app: False  # noqa: ARG005


def _links(paths: AppPaths, tree: Path) -> dict[str, str]:
    """Files of a release that are hard links to files of its home, with those; by relative path."""
    own, build = paths.home, paths.staging.parent
    inodes = {
        file.stat().st_ino: str(file.relative_to(own))
        for place in (own / "cache", build / "source")
        for file in place.rglob("*")
        if file.is_file() and not file.is_symlink()
    }
    return {
        str(file.relative_to(tree)): inodes[file.stat().st_ino]
        for file in tree.rglob("*")
        if file.is_file() and not file.is_symlink() and file.stat().st_ino in inodes
    }


def _link(paths: AppPaths, kept: Path) -> None:
    """Link the files of a kept release as its build did.

    Otherwise the release of the next build would share no file with this one, and each comparison
    of the two would have to read them all.
    """
    for name, twin in json.loads((kept / LINKS).read_text()).items():
        file, other = paths.staging / name, paths.home / twin
        if other.exists() and filecmp.cmp(file, other):
            file.unlink()
            file.hardlink_to(other)


def _name(paths: AppPaths) -> str:
    """The name by which the first build of an app is kept; empty for one that shares nothing."""
    try:
        return (paths.home.parent / SHARING.format(app=paths.name)).read_text()
    except OSError:
        return ""


def _found(paths: AppPaths, commit: str) -> tuple[Path, list[str]] | None:
    """The release that the build of a commit would make, and the lines of its output."""
    name = _name(paths)
    if not name:
        return None
    records = paths.home.parent / BUILT.format(app=paths.name)
    if not records.exists():
        kept = BUILDS / name
        if not name.endswith(f"-{commit}") or not kept.exists():
            return None
        return kept / RELEASE, json.loads((kept / SAID).read_text())
    whole, sources = _trees(paths, commit)
    for line in reversed(records.read_text().splitlines()):
        record = json.loads(line)
        if record["sources"] == sources and record["whole"] != whole:
            with contextlib.closing(sqlite3.connect(paths.home / "state.db", timeout=60)) as state:
                row = state.execute(STORED, (paths.name, record["commit"])).fetchone()
            if row and paths.release(row[0]).is_dir():
                return paths.release(row[0]), record["lines"]
    return None


def _trees(paths: AppPaths, commit: str) -> tuple[str, str]:
    """Digests of all files of a commit, and of those that a build reads."""
    listed = subprocess.run(
        ["git", f"--git-dir={paths.repository}", "ls-tree", "-r", commit],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    sources = [line for line in listed if not line.endswith(("\tgatling.toml", "\tdomains"))]
    whole, read = (hashlib.sha256("\n".join(each).encode()).hexdigest() for each in
                   (listed, sources))  # fmt: skip
    return whole, read
