"""git keeps the commits of retained releases, whatever becomes of the branches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gatling import process
from gatling.errors import NotFound
from gatling.project import repository, source
from tests.project.test_refs import Repositories, repositories, run, template

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["repositories", "template"]


def collect(bare: Path) -> None:
    run(bare, "gc", "--quiet", "--prune=now")


def test_a_commit_outlives_its_branch_as_long_as_its_release(repositories: Repositories) -> None:
    bare, clone = repositories.bare, repositories.clone
    first = run(clone, "rev-parse", "main")
    never_arrived = "1" * 40
    repository.keep_commits(bare, {1: first, 2: never_arrived})
    run(clone, "commit", "--quiet", "--amend", "--allow-empty", "--message", "instead")
    assert repositories.push("--force", "main")[0]
    collect(bare)
    assert source.resolve(bare, first[:9]) == first
    # neither fetched nor pushed to
    assert "refs/gatling" not in run(clone, "ls-remote", str(bare))
    accepted, _ = repositories.push("main:refs/gatling/releases/v9")
    assert not accepted
    repository.keep_commits(bare, {2: never_arrived, 3: run(clone, "rev-parse", "main")})
    collect(bare)
    with pytest.raises(NotFound):
        source.resolve(bare, first[:9])


def test_refs_that_are_known_are_not_listed_again(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, first = repositories.bare, run(repositories.clone, "rev-parse", "main")
    known = {"refs/heads/main": first}
    asked: list[str] = []
    output = process.output

    def listen(argv: list[str], **more: Any) -> str:
        asked.append(argv[3])
        return output(argv, **more)

    monkeypatch.setattr(process, "output", listen)
    repository.keep_commits(bare, {1: first}, known | {f"{repository.RELEASES}v9": first})
    assert asked == ["update-ref"]  # what a ref points at has arrived
    assert run(bare, "for-each-ref", "--format=%(refname)", repository.RELEASES).split() == [
        f"{repository.RELEASES}v1"
    ]
    repository.keep_commits(bare, {1: first}, known | {f"{repository.RELEASES}v1": first})
    repository.keep_commits(bare, {1: first, 2: "1" * 40}, known)
    assert asked[1:] == ["config", "cat-file", "update-ref"]


def test_an_older_repository_gets_the_settings_and_keeps_an_operators_own(
    repositories: Repositories,
) -> None:
    bare = repositories.bare
    run(bare, "config", "--unset", "transfer.hideRefs")
    run(bare, "config", "receive.denyDeletes", "true")
    repository.configure(bare)
    assert run(bare, "config", "transfer.hideRefs") == "refs/gatling"
    assert run(bare, "config", "receive.denyDeletes") == "true"
    before = (bare / "config").stat().st_mtime_ns
    repository.configure(bare)
    assert (bare / "config").stat().st_mtime_ns == before
