"""What the first build of the example has made, for the first builds of other apps.

A build takes 0.8 s of CPU with each app that tests make from the example. The first one is kept:
its directory, the release, and what mix has printed. A push of the same commit to another app then
takes the release, by way of the same steps, and starts no VM (`reuse`). That is for pushes whose
hook is forked (tests/warm.py), in tests that are not about builds.

So does a later push to such an app, of sources that any test of any run has built: what differs in
its release from the first one is kept, and the rest is linked. gatling.toml and `domains` are no
sources, since mix does not read them. All other builds are real, and all later ones with
`bin/test --long`. mix sees that nothing has changed in the directory, since the files keep their
times and the checkout finds them as it would leave them: it belongs to a commit with which all of
these projects begin. mix compiles again whatever has changed since the last real build.
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
from tests.scale import LONG

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
"""There, too, with its commit: the app has had its first build."""
CHANGED, GONE = "changed", "gone.json"
"""Of a later build: files that are not those of the first build's release, and what it lacks."""
GENERATED = {"RELEASE_COOKIE", "SECRET_KEY_BASE"}
"""Variables that each app has, other values each, and that the example does not read in a build."""
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
        kept = _kept(gatling.home.app(app.name), commit)
        return None if kept and kept.exists() else start(gatling, app, commit, mark, waiting)

    def built(
        tasks: Any, around: Surroundings, config: Mapping[str, str], settings: Build, mark: str,
        watcher: Any, commit: str, previous: Path | None, callbacks: Any, early: Any, branches: Any,
    ) -> builder.Built:  # fmt: skip
        paths, lines = around.paths, []
        kept = _kept(paths, commit)
        if settings != Build() or callbacks or around.pinned or config.keys() - GENERATED:
            kept = None
        if not kept or not kept.exists():

            class Kept(Steps):
                def line(self, text: str) -> None:
                    lines.append(text.replace(self.marker, MARKER))
                    super().line(text)

            builder.Steps = Kept  # type: ignore[attr-defined]
            made = build(
                tasks, around, config, settings, mark, watcher, commit, previous, callbacks, early,
                branches,
            )  # fmt: skip
            if kept:
                _note(paths, kept, made.tree, lines)
        else:
            if early is not None:
                early.close()
            steps = Steps(MARKER, watcher)
            tasks.discard(paths, paths.staging)
            _give_release(paths, kept)
            for line in json.loads((kept / SAID).read_text()):
                steps.line(line)
            made = builder._inspect(tasks.staged(paths, previous), steps.facts)
        record = paths.home.parent / BUILT.format(app=paths.name)
        if not record.exists():
            record.write_text(commit)
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


def _kept(paths: AppPaths, commit: str) -> Path | None:
    """Where the build of a commit is kept, if it may be."""
    name = _name(paths)
    if not name:
        return None
    if not (paths.home.parent / BUILT.format(app=paths.name)).exists():
        return BUILDS / name if name.endswith(f"-{commit}") else None
    if LONG or _first(paths) is None:
        return None
    return BUILDS / f"{name}-{_sources(paths, commit)}"


def _first(paths: AppPaths) -> Path | None:
    """The release of the app's first build, if that is retained, and is one that is kept."""
    commit = (paths.home.parent / BUILT.format(app=paths.name)).read_text()
    if not _name(paths).endswith(f"-{commit}"):
        return None
    with contextlib.closing(sqlite3.connect(paths.home / "state.db", timeout=60)) as state:
        row = state.execute(STORED, (paths.name, commit)).fetchone()
    return paths.release(row[0]) if row and paths.release(row[0]).is_dir() else None


def _sources(paths: AppPaths, commit: str) -> str:
    """A digest of what a build reads of a commit."""
    listed = subprocess.run(
        ["git", f"--git-dir={paths.repository}", "ls-tree", "-r", commit],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    sources = [line for line in listed if not line.endswith(("\tgatling.toml", "\tdomains"))]
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()[:24]


def _note(paths: AppPaths, kept: Path, tree: Path, lines: list[str]) -> None:
    """Keep what a build has made; a first one for now in the home, until its push has succeeded."""
    if kept.name == _name(paths):
        if not kept.exists():
            target = paths.home.parent / kept.name
            shutil.copytree(tree, target / RELEASE, symlinks=True)
            (target / SAID).write_text(json.dumps(lines))
            (target / LINKS).write_text(json.dumps(_links(paths, tree)))
        return
    first = _first(paths)
    if first is None:
        return
    partial = BUILDS / f".{kept.name}.{os.getpid()}.{threading.get_ident()}"
    gone = _differences(first, tree, partial / CHANGED)
    (partial / GONE).write_text(json.dumps(gone))
    (partial / SAID).write_text(json.dumps(lines))
    with contextlib.suppress(OSError):  # another process was quicker
        partial.rename(kept)
    shutil.rmtree(partial, ignore_errors=True)


def _give_release(paths: AppPaths, kept: Path) -> None:
    """Make the release that is kept in the staging directory."""
    if (kept / RELEASE).exists():
        subprocess.run(["cp", "-a", kept / RELEASE, paths.staging], check=True)
        _link(paths, kept)
        return
    subprocess.run(["cp", "-al", str(_first(paths)), paths.staging], check=True)
    for path in json.loads((kept / GONE).read_text()):
        entry = paths.staging / path
        if entry.is_dir() and not entry.is_symlink():
            entry.rmdir()
        else:
            entry.unlink()
    for path in _entries(kept / CHANGED):  # they are links to the first release's
        entry = paths.staging / path
        if entry.is_symlink() or entry.is_file():
            entry.unlink()
    shutil.copytree(kept / CHANGED, paths.staging, symlinks=True, dirs_exist_ok=True)


def _differences(first: Path, tree: Path, changed: Path) -> list[str]:
    """Copy what differs in a tree from the first one; what it lacks of that.

    What is in a directory stands before it.
    """
    changed.mkdir(parents=True)
    there = _entries(tree)
    for path in sorted(there):
        one, other, target = first / path, tree / path, changed / path
        if other.is_symlink() or not other.is_dir():
            if not _same(one, other):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(other, target, follow_symlinks=False)
        elif not one.is_dir():
            target.mkdir(parents=True, exist_ok=True)
    return sorted(_entries(first) - there, reverse=True)


def _entries(tree: Path) -> set[str]:
    """All that is below a directory."""
    return {
        os.path.relpath(Path(at, name), tree)
        for at, directories, files in os.walk(tree)
        for name in directories + files
    }


def _same(one: Path, other: Path) -> bool:
    """Whether both are links to the same, or files of the same mode and contents."""
    if other.is_symlink() or one.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    try:
        modes = one.stat().st_mode, other.stat().st_mode
    except OSError:
        return False
    return modes[0] == modes[1] and filecmp.cmp(one, other, shallow=False)
