"""Updating a server from the clone that Gatling was installed from, as root.

Root runs what the clone contains. So nobody but root, and the user who called sudo, may be able to
write it, and git runs as the clone's owner: its configuration and its hooks never run as root, and
its files stay the owner's.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import CommandFailed, InvalidInput
from gatling.host.machine import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

RECORD = "clone"
"""The file in a version's directory in which bin/install records the path of the clone."""
SHOWN = 20
"""How many new commits are listed."""
_SIGNATURES = {
    "G": "signed", "U": "signed with an untrusted key", "N": "not signed",
    "B": "BAD SIGNATURE", "E": "signature not checked: no key", "X": "expired signature",
    "Y": "signed with an expired key", "R": "signed with a REVOKED key",
}  # fmt: skip
"""git-log(1), `%G?`."""


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone of the repository of Gatling, and its owner."""

    path: Path
    owner: int

    @property
    def installer(self) -> Path:
        """The program that installs what is checked out."""
        return self.path / "bin/install"

    def git(self, *words: str) -> str:
        """Run git as the owner; its output. Raises CommandFailed."""
        user = pwd.getpwuid(self.owner)
        as_owner = (
            ["setpriv", f"--reuid={self.owner}", f"--regid={user.pw_gid}", "--init-groups", "--"]
            if self.owner != os.geteuid()
            else []
        )
        env = clean_environment() | {"HOME": user.pw_dir, "GIT_TERMINAL_PROMPT": "0"}
        argv = [*as_owner, "git", *words]
        try:
            return process.output(argv, timeout=300, cwd=self.path, env=env).strip()
        except CommandFailed as error:
            raise CommandFailed(
                f"`git {words[0]}` failed in {self.path}.", log=error.log, status=error.status
            ) from None


def recorded(version: Path) -> Path:
    """The path of the clone from which a version was installed. Raises InvalidInput without one."""
    try:
        return Path((version / RECORD).read_text().strip())
    except FileNotFoundError:
        raise InvalidInput(
            f"The installation in {version} records no clone that it comes from.",
            hint=f"It came from a package. Install the newer one, then the server:"
            f" {version}/bin/python -m pip install --upgrade gatling-NEW.whl &&"
            f" {version}/bin/gatling server install",
        ) from None


def trusted() -> set[int]:
    """The users whose clone root may run: root, and the user who called sudo."""
    return {0, int(os.environ.get("SUDO_UID", "0"))}


def open_clone(path: Path, users: Collection[int]) -> Clone:
    """The clone at a path. Raises InvalidInput if it is none, or if other users can change it."""
    if not (path / ".git").exists() or not (path / "bin/install").is_file():
        raise InvalidInput(
            f"{path}, from which Gatling was installed, is no git clone of Gatling.",
            hint="Clone the repository, and run bin/install from the clone.",
        )
    for part in (
        *reversed(path.parents),
        path,
        *(path / p for p in (".git", "bin", "bin/install")),
    ):
        info = part.lstat()
        refused = f"Root does not run {path}, because other users can change {part}."
        if info.st_uid not in users:
            raise InvalidInput(
                refused,
                hint="Run `sudo gatling server update` as the user who owns it, or clone the"
                " repository as root.",
            )
        if info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX:
            raise InvalidInput(refused, hint=f"Remove the permission: chmod go-w {part}")
    return Clone(path, path.lstat().st_uid)


def update(
    clone: Clone, say: Callable[[str], None], *, dry_run: bool, verify_signatures: bool
) -> None:
    """Fetch, list what is new, and fast-forward the clone to it unless it is a dry run.

    Raises InvalidInput for a clone whose branch cannot be fast-forwarded, CommandFailed when git
    fails, also for a commit that is not signed where signatures are to be verified.
    """
    try:
        upstream = clone.git("rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{upstream}")
    except CommandFailed:
        raise InvalidInput(
            f"{clone.path} is on no branch that follows a branch of a remote.",
            hint=f"Choose one: git -C {clone.path} switch main",
        ) from None
    clone.git("fetch", "--quiet")
    new = int(clone.git("rev-list", "--count", "HEAD..@{upstream}"))
    if not new:
        say(f"{upstream} has no new commits.")
        return
    if clone.git("rev-list", "--count", "@{upstream}..HEAD") != "0":
        shown = f"git -C {clone.path} log --oneline --left-right HEAD...@{{upstream}}"
        raise InvalidInput(
            f"The branch in {clone.path} has commits that {upstream} does not have.",
            hint=f"Compare them: {shown}",
        )
    say(f"{upstream} has {new} new {'commit' if new == 1 else 'commits'}:")
    for line in _listed(clone):
        say(f"  {line}")
    if new > SHOWN:
        say(f"  and {new - SHOWN} older ones")
    if not dry_run:
        verify = ["--verify-signatures"] if verify_signatures else []
        clone.git("merge", "--quiet", "--ff-only", *verify, "@{upstream}")


def _listed(clone: Clone) -> Iterator[str]:
    """The newest commits that the clone lacks, newest first, with the state of their signatures."""
    form = "--format=%h%x09%G?%x09%an: %s"
    newest = ("--no-show-signature", "--no-color", f"--max-count={SHOWN}", "HEAD..@{upstream}")
    for line in clone.git("log", form, *newest).splitlines():
        commit, signature, subject = line.split("\t", 2)
        yield f"{commit}  {subject} ({_SIGNATURES.get(signature, 'not signed')})"


def installed_from() -> Clone:
    """The clone of the installation that runs. Raises InvalidInput as the functions above."""
    return open_clone(recorded(Path(sys.prefix)), trusted())
