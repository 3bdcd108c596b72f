"""An app's bare repository: its settings, and the commits that git must keep for its releases.

A release can be compared with others, rolled back to and deployed again as long as it is retained.
Its commit may no longer be on any branch, and git removes unreachable commits after two weeks:
so each retained release has a ref, `refs/gatling/releases/vN`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import CommandFailed
from gatling.project.git_environment import own_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GIT_CONFIG = {
    # what is pushed is checked before anything reads it: paths such as .git/, hostile .gitmodules
    "receive.fsckObjects": "true",
    # … but not for what old tools have written into honest histories
    "receive.fsck.zeroPaddedFilemode": "warn",
    "receive.fsck.missingSpaceBeforeDate": "warn",
    "receive.fsck.badTimezone": "warn",
    "receive.fsck.missingEmail": "warn",
    # a lost connection is noticed only when something is sent to the pusher
    "receive.keepAlive": "2",
    "receive.denyDeleteCurrent": "refuse",
    # `git push -o` would fail at the pusher's git otherwise
    "receive.advertisePushOptions": "true",
    # a power cut must not leave an empty object behind a branch that is there
    "core.fsync": "all",
    "receive.maxInputSize": "2g",
    "gc.auto": "256",
    # commits of retained releases; neither shown to who fetches nor to be pushed to
    "transfer.hideRefs": "refs/gatling",
}

RELEASES = "refs/gatling/releases/"


def configure(repository: Path) -> None:
    """Give a repository its settings; what an operator has added to them stays."""
    there = dict(
        line.split("=", 1)
        for line in _git(repository, "config", "--local", "--list").splitlines()
        if "=" in line
    )
    for key, value in GIT_CONFIG.items():
        section, _, name = key.rpartition(".")
        if there.get(f"{section}.{name.lower()}", there.get(key.lower())) != value:
            _git(repository, "config", key, value)


def keep_commits(
    repository: Path, commits: Mapping[int, str], refs: Mapping[str, str] | None = None
) -> None:
    """Let git keep the commits of these releases, and no longer those of others.

    `refs` are the objects of all refs, if they are known.

    A commit that has not arrived, since its push was rejected, has no ref. While a push is under
    way its own commit is not there yet either: it is kept by its branch until another push comes,
    which begins here. Raises CommandFailed.
    """
    if refs is None:
        listed = _git(repository, "for-each-ref", "--format=%(refname) %(objectname)")
        refs = dict(line.split(" ", 1) for line in listed.splitlines())
    there = {ref: commit for ref, commit in refs.items() if ref.startswith(RELEASES)}
    wanted = {f"{RELEASES}v{number}": commit for number, commit in commits.items()}
    if there == wanted:
        return
    if not there:
        configure(repository)  # one that was made before there were such refs
    arrived = _arrived(repository, set(wanted.values()), set(refs.values()))
    lines = [f"delete {ref}\n" for ref in there if ref not in wanted]
    lines += [
        f"update {ref} {commit}\n"
        for ref, commit in wanted.items()
        if commit in arrived and there.get(ref) != commit
    ]
    if lines:
        _git(repository, "update-ref", "--stdin", stdin="".join(lines))


def _arrived(repository: Path, commits: set[str], known: set[str]) -> set[str]:
    """Those of the commits that are in the repository, as the `known` ones are."""
    unknown = commits - known
    if not unknown:
        return commits
    asked = "".join(f"{commit}\n" for commit in unknown)
    found = _git(repository, "cat-file", "--batch-check=%(objectname)", stdin=asked).splitlines()
    return (commits & known) | {line for line in found if " " not in line}


def try_to_keep_commits(
    repository: Path, commits: Mapping[int, str], refs: Mapping[str, str] | None = None
) -> None:
    """As `keep_commits`; another git process may be writing the same refs, and does it then."""
    try:
        keep_commits(repository, commits, refs)
    except CommandFailed:
        return


def _git(repository: Path, *arguments: str, stdin: str = "") -> str:
    return process.output(
        ["git", "--git-dir", str(repository), *arguments], env=own_environment(), stdin=stdin
    )
