"""Files that an earlier build has generated: which of them the next build may find.

A build that starts from a fresh checkout is the measure: no file of an earlier build may enter a
release. So everything that is not tracked is removed before a build, except for dependencies and
mix's own caches. One kind of file needs more care. A file that the compilation has written outside
of `_build`, such as a NIF in `priv/`, is not written again while mix finds its sources unchanged.
The build records these files (build/priv/fresh.ex). They stay while nothing changes that decides
what is generated; otherwise they are removed, and the build compiles everything again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import CommandFailed, InvalidManifest
from gatling.project.own_files import own_file

if TYPE_CHECKING:
    from pathlib import Path

NOTES = "_build/gatling"
"""The directory in which a build keeps what it must know of the one before."""
COMPILED = "compiled"
"""The list of files that compilations have written outside of `_build`, each ended by a NUL."""
FORCE = "force"
"""While this file exists, the next build compiles the project from scratch."""
MAX_LIST = 4 << 20

_DECIDES = re.compile(
    r"(.*/)?(mix\.exs|mix\.lock|[Mm]akefile[^/]*)\Z|(.*/)?(config|lib/mix)/.*", re.DOTALL
)
"""Paths of what decides which files a compilation writes."""
_ODD = frozenset({"", ".", ".."})


def kept(
    git: list[str], project: Path, work_tree: Path, before: str, commit: str, env: dict[str, str]
) -> list[str]:
    """The generated files below `work_tree` that the next build may keep.

    `before` is the commit of the build before, or empty. When its files cannot be kept, the next
    build compiles everything.
    """
    notes = project / NOTES
    if not notes.parent.is_dir():
        return []
    listed = _listed(notes / COMPILED)
    if listed == []:
        return []
    unchanged = before == commit or (before and not _decisive(git, work_tree, before, commit, env))
    if listed is not None and unchanged:
        return listed
    notes.mkdir(exist_ok=True)
    (notes / FORCE).touch()
    return []


def exclusion(path: str) -> str:
    """A path as a pattern of gitignore(5) that matches nothing else."""
    return "/" + re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)


def _listed(file: Path) -> list[str] | None:
    """The paths in a build's list; None when there is none that could be read."""
    try:
        raw = own_file(file, MAX_LIST)
    except (InvalidManifest, OSError):
        return None
    if raw is None or len(raw) > MAX_LIST:
        return None
    paths = raw.decode("utf-8", "surrogateescape").split("\0")
    return [p for p in paths if p and "\n" not in p and not _ODD.intersection(p.split("/"))]


def _decisive(
    git: list[str], work_tree: Path, before: str, commit: str, env: dict[str, str]
) -> bool:
    """Whether the commits differ in what decides which files are generated."""
    try:
        text = process.output(
            [*git, "diff", "--no-renames", "--name-status", "-z", before, commit],
            env=env, cwd=work_tree,
        )  # fmt: skip
    except CommandFailed:  # the commit before may have been collected
        return True
    fields = text.split("\0")
    # a source that is gone may have been the one that wrote the file
    changes = zip(fields[::2], fields[1::2], strict=False)
    return any(status == "D" or _DECIDES.match(path) for status, path in changes)
