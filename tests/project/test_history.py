"""Who wrote a commit, and what about."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from gatling.project import history

if TYPE_CHECKING:
    from pathlib import Path


def git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", repository, "-c", "user.email=a@example.com", *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_commits_in_words(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    made = []
    for author, message in (("Ann Ähn", "Show prices\n\nof all items"), ("Bob", "-- \x1b[2J")):
        git(tmp_path, "-c", f"user.name={author}", "commit", "--quiet", "--allow-empty",
            "--message", message)  # fmt: skip
        made.append(git(tmp_path, "rev-parse", "HEAD"))
    gone = "0123456789" * 4
    found = history.commits(tmp_path / ".git", [*made, gone, made[0]])
    assert {ident: (each.author, each.subject) for ident, each in found.items()} == {
        made[0]: ("Ann Ähn", "Show prices"), made[1]: ("Bob", "-- \x1b[2J")
    }  # fmt: skip
    assert history.commits(tmp_path / ".git", []) == {}
    assert history.commits(tmp_path / "nowhere", made) == {}


def test_a_commit_that_was_found_is_not_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet")
    for message in ("one", "two"):
        git(tmp_path, "-c", "user.name=Ann", "commit", "--quiet", "--allow-empty", "-m", message)
    one, two = git(tmp_path, "rev-parse", "HEAD^", "HEAD").split()
    repository = tmp_path / ".git"
    assert history.commit(repository, "0" * 40) is None
    found = history.commit(repository, one)
    every = history.commits(repository, [one, two])

    def fail(*_: object, **__: object) -> str:
        raise AssertionError

    begun = time.monotonic()
    assert history.commits(repository, ["1" * 40, one]) == {one: found}
    monkeypatch.setattr(history, "_git", fail)
    # nor one that git has removed, for a minute
    assert history.commit(repository, "0" * 40) is None
    assert history.commits(repository, ["1" * 40, two]) == {two: every[two]}
    monkeypatch.setattr(time, "monotonic", lambda: begun + 2 * history.MISSING_SECONDS)
    with pytest.raises(AssertionError):
        history.commit(repository, "0" * 40)
    assert history.commit(repository, one) == found
    assert history.commits(repository, [two, one]) == every
    monkeypatch.setattr(history, "_known", {})
    with pytest.raises(AssertionError):
        history.commit(repository, one)
