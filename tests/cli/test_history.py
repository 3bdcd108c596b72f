"""What a release brought, and how two differ, on a home whose releases are records alone."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import Exit
from gatling.operations.session import opened
from gatling.state import apps, deployments, releases
from gatling.state.releases import Release

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell

GIT = ("git", "-c", "user.name=Ann Ådel", "-c", "user.email=ann@example.com")


class Source:
    """A project, and the app's repository that gets its commits without a push."""

    def __init__(self, work: Path, bare: Path) -> None:
        self.work, self.bare = work, bare
        self.run("init", "--quiet", "--initial-branch=main")

    def run(self, *words: str) -> str:
        return subprocess.run(
            [*GIT, *words], cwd=self.work, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, subject: str, **files: str) -> str:
        for name, text in files.items():
            (self.work / name).write_text(text)
        self.run("add", "--all")
        self.run("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.deliver()

    def deliver(self) -> str:
        ident = self.run("rev-parse", "HEAD")
        fetch = [*GIT, "--git-dir", str(self.bare), "fetch", "--quiet", str(self.work)]
        subprocess.run([*fetch, f"+HEAD:refs/heads/{ident[:9]}"], check=True)
        return ident


def add(number: int, commit: str, *, live: bool = True, **changes: Any) -> None:
    """Record a release, and the deployment that made it live."""
    given: dict[str, Any] = {
        "origin": "build", "base": None, "name": "shop", "version": "0.1.0", "elixir": "1.18.1",
        "otp": "27", "config": {}, "bytes": 1_500_000, "created_at": "2026-11-01T10:00:00.000Z",
        "removed_at": None,
    }  # fmt: skip
    with opened("shop") as gatling:
        db = gatling.db
        releases.add(db, Release(app="shop", number=number, commit=commit, **(given | changes)))
        (gatling.home.app("shop").release(number)).mkdir(parents=True)
        (gatling.home.app("shop").release(number) / "file").write_bytes(b"x" * 2_000_000)
        if live:
            begun = deployments.begin(
                db, "shop", cause="push", actor="bob", mark="m", commit=commit
            ).id
            deployments.set_target(db, begun, release=number, slot=1, strategy="hot", reasons=[])
            deployments.end(db, begun, "succeeded")
            apps.make_live(db, "shop", release=number, slot=1, config=None)


@pytest.fixture
def source(shell: Shell, tmp_path: Path) -> Source:
    shell.run("load", "shop")
    made = Source(tmp_path, shell.home / "apps/shop.git")
    add(1, made.commit("Begin", a="1\n"), config={"A": "1", "B": "secret-before"})
    made.commit("Add a page", b="1\n2\n")
    changed: dict[str, Any] = {
        "config": {"B": "secret-after", "C": "3"},
        "manifest": {"health.path": "/ok"},
    }
    add(2, made.commit("Mend the page\n\nAt length.", b="1\n3\n"), otp="28", **changed)
    return made


def test_a_release_and_what_it_brought(shell: Shell, source: Source) -> None:
    found = shell.json("releases", "shop", "v2")
    assert (found["release"], found["live"], found["retained"]) == ("v2", True, True)
    assert found["described"]["author"] == "Ann Ådel"
    assert found["described"]["subject"] == "Mend the page"
    assert (found["deployment"], found["actor"], found["strategy"]) == (2, "bob", "hot")
    assert (found["bytes"], found["total_bytes"]) == (1_500_000, 2_000_000)
    assert found["config"] == ["B", "C"]
    since = found["since"]
    assert (since["older"], since["newer"]) == ("v1", "v2")
    assert [c["subject"] for c in since["span"]["commits"]] == ["Mend the page", "Add a page"]
    assert (since["span"]["commit_count"], since["span"]["dropped_count"]) == (2, 0)
    assert since["span"]["files"] == [{"path": "b", "added": 2, "removed": 0}]
    assert since["config"] == {"added": ["C"], "removed": ["A"], "changed": ["B"]}
    assert since["settings"] == {"added": ["health.path"], "removed": [], "changed": []}
    assert since["toolchain"] == ["Elixir 1.18.1, Erlang/OTP 27", "Elixir 1.18.1, Erlang/OTP 28"]
    said = shell.run("releases", "shop", "v2").out
    for line in (
        "release      shop v2, live\n", "size         2.0 MB, 1.5 MB of its own\n",
        "first live   deployment 2 by bob, hot\n", "\nSince v1\n",
        "config       added C. removed A. changed B\n", "2 commits added\n", "1 file changed\n",
        f"  {source.run('rev-parse', 'HEAD')[:9]}  Mend the page  (Ann Ådel, ",
    ):  # fmt: skip
        assert line in said
    assert "secret" not in said + str(found)


def test_deployments_are_listed_with_who_and_the_commit(shell: Shell, source: Source) -> None:
    header, newest, first = shell.run("deployments", "shop").out.splitlines()
    assert header.split()[:6] == ["id", "cause", "release", "commit", "by", "strategy"]
    commit = source.run("rev-parse", "HEAD")
    assert newest.split()[:6] == ["2", "push", "v2", commit[:9], "bob", "hot"]
    assert first.split()[2] == "v1"
    with opened("shop") as gatling:
        deployments.begin(gatling.db, "shop", cause="restart", actor="ann", mark="m", commit=None)
    assert shell.run("deployments", "shop").out.splitlines()[1].split()[:5] == [
        "3", "restart", "–", "–", "ann",
    ]  # fmt: skip


def test_the_first_release(shell: Shell, source: Source) -> None:
    assert shell.json("releases", "shop", "1")["since"] is None
    assert "Since" not in shell.run("releases", "shop", "v1").out
    assert "no release v9" in shell.run("releases", "shop", "v9", status=Exit.NOT_FOUND).err
    assert "not a release" in shell.run("releases", "shop", "main", status=Exit.INVALID).err


def test_a_release_is_compared_with_what_it_replaced(shell: Shell, source: Source) -> None:
    """After a rollback to v1 that is v1, whatever was built in between."""
    with opened("shop") as gatling:
        apps.make_live(gatling.db, "shop", release=1, slot=1, config=None)
    add(3, source.commit("Go on", c="1\n"))
    assert shell.json("releases", "shop", "v3")["since"]["older"] == "v1"
    add(4, source.commit("Fail", c="2\n"), live=False)
    found = shell.json("releases", "shop", "v4")
    assert (found["deployment"], found["since"]["older"]) == (None, "v3")
    assert "first live   never\n" in shell.run("releases", "shop", "v4").out


def test_two_releases(shell: Shell, source: Source) -> None:
    found = shell.json("diff", "shop", "v1", "v2")
    assert (
        found == shell.json("diff", "shop", "v1") == shell.json("releases", "shop", "v2")["since"]
    )
    back = shell.json("diff", "shop", "v2", "v1")
    assert (back["span"]["commit_count"], back["span"]["dropped_count"]) == (0, 2)
    assert "2 commits of v2 dropped\n" in shell.run("diff", "shop", "v2", "v1").out
    assert "+3" in shell.run("diff", "shop", "v1", "v2", "--patch").out.splitlines()
    with opened("shop") as gatling:
        releases.mark_removed(gatling.db, "shop", 1)
    assert shell.json("diff", "shop", "v1", "v2")["config"] is None
    assert "config       no longer known" in shell.run("diff", "shop", "v1", "v2").out
    assert shell.run("diff", "shop", "v2").out.endswith("Both are built from the same source.\n")
    assert "not a release" in shell.run("diff", "shop", "main", status=Exit.INVALID).err


def test_a_commit_that_git_has_removed(shell: Shell, source: Source) -> None:
    add(3, "0" * 40)
    found = shell.json("releases", "shop", "v3")
    assert (found["described"], found["since"]["span"]) == (None, None)
    assert "no longer in the repository" in shell.run("releases", "shop", "v3").out
    said = shell.run("diff", "shop", "v1", "v3", "--patch", status=Exit.NOT_FOUND)
    assert "no longer in the repository" in said.err


def test_what_a_commit_says_is_only_shown(shell: Shell, source: Source) -> None:
    """Neither a subject, nor an author, nor a file can draw on the terminal or run anything."""
    add(3, source.commit("\x1b]0;owned\x07x", **{".gitattributes": "* diff=evil filter=evil\n"}))
    said = shell.run("releases", "shop", "v3").out
    assert "\x1b" not in said
    assert "\\x1b]0;owned\\x07x" in said
    for _ in range(30):
        source.run("commit", "--quiet", "--allow-empty", "--message", "again")
    add(4, source.deliver())
    said = shell.run("diff", "shop", "v3", "v4").out
    assert said.count("again") == 20
    assert "  … and 10 more\n" in said
    assert len(shell.json("diff", "shop", "v3", "v4")["span"]["commits"]) == 30
