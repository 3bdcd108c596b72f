"""Finds the refs that git would refuse after its pre-receive hook, before anything is built.

git checks most of what a push asks for only when it writes the refs, after the hook has returned
(git-receive-pack(1), `update` in its source). A release must not be live whose ref git refuses, so
the same conditions are checked here first, for all refs: a push may be atomic, and the hook cannot
see whether it is. The remaining risk is a failure of the ref transaction itself, such as a full
disk; the same push again then finds its commit live and only moves the branch.
"""

from __future__ import annotations

import functools
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from gatling import names, process, times
from gatling.errors import CommandFailed, PushRefused
from gatling.project import source

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HEADS = "refs/heads/"
TAGS = "refs/tags/"
GIT_SECONDS = 600.0
"""A first push may bring a million commits, each of which is looked at."""
LOCK_SECONDS = 3.0
"""How long a ref's lock is waited for that another git process holds."""
ABANDONED_SECONDS = 60.0
"""The age from which on a lock is what a killed git has left: git holds one for milliseconds."""

_REFS = ("for-each-ref", "--format=%(objectname) %(refname)")
_FAST_FORWARDS = ("config", "--type=bool", "--get", "receive.denyNonFastForwards")
_KINDS = ("cat-file", "--batch-check=%(objecttype)")
_WHOLE = (
    "Fetch the rest with `git fetch --unshallow` and push again; in CI set the depth of the"
    " checkout to 0 (actions/checkout: `fetch-depth: 0`, GitLab: `GIT_DEPTH: 0`)."
)
"""Advice for a push from a shallow clone, which lacks parents of its commits.

git refuses it at its end. It is not accepted either: what is built from it could not be followed by
an ordinary push.
"""
_PLAIN = re.compile(r"refs/(heads|tags)(/[A-Za-z0-9_][A-Za-z0-9_-]*)+")
"""Names that need no look by git: some of those that git-check-ref-format(1) allows."""


class Update(NamedTuple):
    """One ref of a push."""

    old: str
    new: str
    ref: str

    @property
    def creates(self) -> bool:
        """Whether the ref is new."""
        return not self.old.strip("0")

    @property
    def deletes(self) -> bool:
        """Whether the ref is to be deleted."""
        return not self.new.strip("0")

    @property
    def what(self) -> str:
        """`branch main`, `tag v1.0`."""
        for prefix, word in ((HEADS, "branch"), (TAGS, "tag")):
            if self.ref.startswith(prefix):
                return f"{word} {self.ref.removeprefix(prefix)}"
        return self.ref


def parse(lines: Iterable[str]) -> list[Update]:
    """Parse git's input to the hook; raises PushRefused when it is something else."""
    updates = []
    for line in lines:
        parts = line.rstrip("\n").split(" ", 2)
        if len(parts) != 3 or not all(names.is_commit(p) for p in parts[:2]):
            raise PushRefused(f"Unexpected input of the pre-receive hook: {line!r}")
        updates.append(Update(*parts))
    return updates


class Look:
    """git's knowledge of a push, asked for by processes that run beside each other and the caller.

    A push waits for all of them.
    """

    def __init__(self, repository: Path, updates: Iterable[Update], path: str = "") -> None:
        """Begin. `path` is that of a file which the pushed commits may have."""
        self._pushed = [update.new for update in updates if not update.deletes]
        self._complete = ("rev-list", "--quiet", *self._pushed, "--not", "--all")
        self._objects = [*self._pushed, *(f"{new}:{path}" for new in self._pushed if path)]
        questions: dict[tuple[str, ...], str] = {_REFS: ""}
        if self._pushed:
            names = "".join(f"{name}\n" for name in self._objects)
            questions |= {_FAST_FORWARDS: "", _KINDS: names, self._complete: ""}
        self._questions = list(questions)
        self._answers = process.outputs(
            [(["git", "--git-dir", str(repository), *words], questions[words])
             for words in questions],
            env=source.environment_of_push(repository), timeout=GIT_SECONDS,
        )  # fmt: skip

    @functools.cached_property
    def _found(self) -> dict[tuple[str, ...], str | None]:
        return dict(zip(self._questions, self._answers(), strict=True))

    @property
    def there(self) -> dict[str, str]:
        """The objects of all refs of the repository, by name."""
        return _parsed(self._found[_REFS])

    @property
    def only_forwards(self) -> bool:
        """Whether the repository accepts only fast-forwards."""
        return (self._found.get(_FAST_FORWARDS) or "").strip() == "true"

    @property
    def is_complete(self) -> bool:
        """Whether all parents of the pushed commits are there."""
        return not self._pushed or self._found[self._complete] is not None

    def kind(self, name: str) -> str:
        """The type of a pushed object, or of `COMMIT:PATH`; empty without such an object."""
        kinds = dict(zip(self._objects, (self._found.get(_KINDS) or "").splitlines(), strict=False))
        kind = kinds.get(name, "")
        return kind if kind.isalpha() else ""  # otherwise `NAME missing`


def check(repository: Path, updates: Iterable[Update], look: Look | None = None) -> dict[str, str]:
    """Raise PushRefused for what git would refuse, and for refs that an app has no use for.

    `look` was begun for the same updates. Returns the objects of all refs of the repository, by
    name.
    """
    every = list(updates)
    look = look or Look(repository, every)
    there = look.there
    for update in every:
        _check_kind(update)
        _check_conflicts(update, {*there, *(u.ref for u in every if not u.deletes)})
        check_unmoved(there, update)
        _check_lock(repository, update)
        if update.deletes:
            _check_deletion(repository, update)
        else:
            kind = look.kind(update.new)
            _check_object(repository, update, kind, only_forwards=look.only_forwards)
    if not look.is_complete:
        raise PushRefused("The pushed history is incomplete: this is a shallow clone.", hint=_WHOLE)
    return there


def check_still(repository: Path, updates: Iterable[Update]) -> None:
    """Raise PushRefused when a ref was moved or is being written since `check`."""
    there = _refs(repository)
    for update in updates:
        check_unmoved(there, update)
        _check_lock(repository, update)


def check_unmoved(there: dict[str, str], update: Update) -> None:
    """Raise PushRefused when a ref is not where the push found it."""
    current = there.get(update.ref, "")
    if current == ("" if update.creates else update.old):
        return
    moved = f"has moved to {current[:9]}" if current else "has been deleted"
    raise PushRefused(
        f"{_short(update.ref)} {moved} by another push.",
        hint="Fetch, merge or rebase, and push again.",
    )


def _check_kind(update: Update) -> None:
    if not update.ref.startswith((HEADS, TAGS)):
        raise PushRefused(
            f"{update.ref} is neither a branch nor a tag, and is not accepted.",
            hint="Push branches and tags only: `git push REMOTE --all`, `git push REMOTE --tags`.",
        )
    if _PLAIN.fullmatch(update.ref):
        return
    try:
        process.output(["git", "check-ref-format", update.ref])
    except CommandFailed:
        raise PushRefused(f"{update.ref!r} is not a valid name of a branch or tag.") from None


def _check_conflicts(update: Update, others: set[str]) -> None:
    """A ref is a file or a directory: `main` and `main/x` exclude each other."""
    if update.deletes:
        return
    for other in sorted(others):
        if other.startswith(f"{update.ref}/") or update.ref.startswith(f"{other}/"):
            raise PushRefused(
                f"git cannot have {_short(update.ref)} and {_short(other)} at the same time.",
                hint=f"Delete the other one first: `git push REMOTE --delete {_short(other)}`.",
            )


def _check_lock(repository: Path, update: Update) -> None:
    """Wait for the locks that git will take, and remove what a killed git has left of them.

    git takes those of a ref and of HEAD, and for a deletion that of packed refs, and never removes
    one of another process: after a power cut every further push would be refused.
    """
    for name in (update.ref, "HEAD", *(["packed-refs"] if update.deletes else [])):
        lock = repository / f"{name}.lock"
        for last in times.looks(LOCK_SECONDS, 0.05):
            if not lock.exists():
                break
            if _is_abandoned(lock):
                lock.unlink(missing_ok=True)
            elif last:
                raise PushRefused(
                    f"{_short(name)} is locked by another git process, or by one that was killed"
                    f" less than {ABANDONED_SECONDS:.0f} s ago.",
                    hint="Push again in a minute.",
                )


def _is_abandoned(lock: Path) -> bool:
    """Whether a lock is older than git holds one, or than this boot of the machine."""
    try:
        made = lock.stat().st_mtime
    except FileNotFoundError:
        return False
    now = time.time()
    booted = now - time.clock_gettime(time.CLOCK_BOOTTIME)
    return made < max(booted, now - ABANDONED_SECONDS)


def _check_deletion(repository: Path, update: Update) -> None:
    if _setting(repository, "receive.denyDeletes") == "true" and update.ref.startswith(HEADS):
        raise PushRefused(f"The repository refuses to delete branches ({_short(update.ref)}).")
    current = _git(repository, "symbolic-ref", "--quiet", "HEAD")
    if update.ref == current:
        raise PushRefused(
            f"{_short(update.ref)} is the repository's current branch and cannot be deleted."
        )


def _check_object(repository: Path, update: Update, kind: str, *, only_forwards: bool) -> None:
    """Raise PushRefused for a branch that git would not move there.

    `kind` is that of the pushed object, and `only_forwards` the repository's setting.
    """
    if not update.ref.startswith(HEADS):
        return
    if kind != "commit":
        name = _short(update.ref)
        hint = f"Push the commit of the tag: `git push REMOTE 'TAG^{{commit}}:{update.ref}'`."
        raise PushRefused(
            f"{name} cannot point at a {kind or 'missing object'}: a branch points at a commit.",
            hint=hint if kind == "tag" else "",
        )
    if update.creates or not only_forwards:
        return
    if _git(repository, "merge-base", "--is-ancestor", update.old, update.new) is None:
        raise PushRefused(
            f"The repository accepts only fast-forwards ({_short(update.ref)}).",
            hint="Merge or rebase, and push without --force.",
        )


def _refs(repository: Path) -> dict[str, str]:
    return _parsed(_git(repository, *_REFS))


def _parsed(listed: str | None) -> dict[str, str]:
    pairs = (line.split(" ", 1) for line in (listed or "").splitlines())
    return {ref: object_ for object_, ref in pairs}


def _setting(repository: Path, name: str) -> str | None:
    return _git(repository, "config", "--type=bool", "--get", name)


def _git(repository: Path, *arguments: str) -> str | None:
    """Return git's output, with the objects of the push under way; None when it fails."""
    try:
        return process.output(
            ["git", "--git-dir", str(repository), *arguments],
            env=source.environment_of_push(repository),
            timeout=GIT_SECONDS,
        ).strip()
    except CommandFailed:
        return None


def _short(ref: str) -> str:
    return ref.removeprefix(HEADS).removeprefix(TAGS)
