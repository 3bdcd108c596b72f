"""The pushed repository's commits: author, subject, and the changes between two of them.

Authors and subjects are the pusher's words. git prints one per line and records end with a NUL, so
that none of them can pass for another. Control characters are made visible when they are shown.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import process
from gatling.errors import CommandFailed, NotFound
from gatling.project.git_environment import own_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MAX_COMMITS = 200
"""Commits that are listed; all are counted."""
MAX_FILES = 500
"""Changed files that are listed; all are counted."""
MAX_KNOWN = 10_000
"""Commits that a process remembers. They never change, and a page that shows fifty apps would
otherwise start git fifty times."""
MISSING_SECONDS = 60.0
"""How long a process remembers that git has removed a commit: a push may bring it back."""
_FORMAT = "--format=%H%n%cI%n%an%n%s"


class Commit(Struct, frozen=True):
    """A commit, as its author described it."""

    id: str
    at: str
    """When it was committed, in its own time zone."""
    author: str
    subject: str


class FileChange(Struct, frozen=True):
    """A file that two commits have differently; binary files have no lines."""

    path: str
    added: int | None
    removed: int | None


class Span(Struct, frozen=True):
    """The commits and changes that lead from one commit to another."""

    commits: list[Commit]
    """The newer commit has them and the older one does not; the newest first."""
    commit_count: int
    dropped: list[Commit]
    """The older commit has them and the newer one does not, as after a forced push."""
    dropped_count: int
    files: list[FileChange]
    file_count: int


_known: dict[tuple[Path, str], Commit] = {}
_missing: dict[tuple[Path, str], float] = {}
"""Until when they count as missing, by time.monotonic()."""


def commit(repository: Path, ident: str) -> Commit | None:
    """A commit of the repository; None when git has removed it before it was first asked for."""
    known = _known.get((repository, ident))
    if known is not None or _is_missing(repository, ident):
        return known
    try:
        found = _log(repository, ident, limit=1)
    except CommandFailed:
        found = []
    _remember(repository, [ident], found)
    return found[0] if found else None


def _is_missing(repository: Path, ident: str) -> bool:
    return time.monotonic() < _missing.get((repository, ident), 0.0)


def _remember(repository: Path, asked: Iterable[str], found: Sequence[Commit]) -> None:
    for memory in (_known, _missing):
        if len(memory) > MAX_KNOWN:
            memory.clear()
    _known.update({(repository, each.id): each for each in found})
    until, there = time.monotonic() + MISSING_SECONDS, {each.id for each in found}
    _missing.update({(repository, ident): until for ident in asked if ident not in there})


def commits(repository: Path, idents: Iterable[str]) -> dict[str, Commit]:
    """These commits, by id, without those that git has removed."""
    wanted = dict.fromkeys(idents)
    known = {ident: one for ident in wanted if (one := _known.get((repository, ident)))}
    unknown = [one for one in wanted if one not in known and not _is_missing(repository, one)]
    if not unknown:
        return known
    try:
        asked = "".join(f"{ident}\n" for ident in unknown)
        there = [
            f"{line}\n"
            for line in _git(
                repository, "cat-file", "--batch-check=%(objectname)", stdin=asked
            ).splitlines()
            if " " not in line
        ]
        found = _log(repository, "--no-walk", "--stdin", stdin="".join(there)) if there else []
    except CommandFailed:
        found = []
    _remember(repository, unknown, found)
    return known | {each.id: each for each in found}


def span(repository: Path, older: str, newer: str) -> Span | None:
    """Return the span from a commit to another; None when git has removed one of them."""
    try:
        changed = _files(repository, older, newer)
        return Span(
            commits=_log(repository, f"{older}..{newer}", limit=MAX_COMMITS),
            commit_count=_count(repository, f"{older}..{newer}"),
            dropped=_log(repository, f"{newer}..{older}", limit=MAX_COMMITS),
            dropped_count=_count(repository, f"{newer}..{older}"),
            files=changed[:MAX_FILES],
            file_count=len(changed),
        )
    except CommandFailed:
        return None


def patch(repository: Path, older: str, newer: str) -> str:
    """The changes of the source as a patch; raises NotFound when git has removed a commit."""
    try:
        return _git(repository, "diff", *_PLAIN_DIFF, older, newer, "--")
    except CommandFailed:
        raise NotFound("A commit of these two releases is no longer in the repository.") from None


_PLAIN_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames")
"""Nothing that the attributes of a pushed file or a user's git configuration name is run."""


def _log(
    repository: Path, *revisions: str, limit: int | None = None, stdin: str = ""
) -> list[Commit]:
    few = [f"--max-count={limit}"] if limit is not None else []
    text = _git(
        repository, "log", "-z", _FORMAT, *few, "--no-show-signature", "--no-color",
        "--no-mailmap", "--encoding=UTF-8", *revisions, "--", stdin=stdin,
    )  # fmt: skip
    records = [record.split("\n", 3) for record in text.split("\0") if record]
    return [Commit(ident, at, author, subject) for ident, at, author, subject in records]


def _count(repository: Path, revisions: str) -> int:
    return int(_git(repository, "rev-list", "--count", revisions, "--"))


def _files(repository: Path, older: str, newer: str) -> list[FileChange]:
    text = _git(repository, "diff", *_PLAIN_DIFF, "--numstat", "-z", older, newer, "--")
    found = [record.split("\t", 2) for record in text.split("\0") if record]
    return [FileChange(path, _number(added), _number(removed)) for added, removed, path in found]


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _git(repository: Path, *arguments: str, stdin: str = "") -> str:
    argv = ["git", "--git-dir", str(repository), *arguments]
    return process.output(argv, env=own_environment(), stdin=stdin)
