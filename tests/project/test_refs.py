"""What git refuses of a push is refused before its build, and nothing else is. With real git."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from gatling.errors import PushRefused
from gatling.project import refs, repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A pre-receive hook that does what Gatling's does, without the deployment; `unchecked` lets git
# itself decide.
HOOK = """\
#!{python} -I
import sys
from pathlib import Path
from gatling.errors import PushRefused
from gatling.project import refs
if Path("unchecked").exists():
    sys.exit(0)
try:
    updates = refs.parse(sys.stdin)
    refs.check(Path.cwd(), updates)
    refs.check_still(Path.cwd(), updates)
except PushRefused as error:
    sys.exit(f"refused: {{error.what}} {{error.hint}}")
"""


class Repositories:
    """A clone and the repository that it pushes to."""

    def __init__(self, root: Path) -> None:
        self.root, self.bare, self.clone = root, root / "bare.git", root / "clone"

    def make(self) -> None:
        root = self.root
        run(root, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        for key, value in repository.GIT_CONFIG.items():
            run(self.bare, "config", key, value)
        hook = self.bare / "hooks/pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(HOOK.format(python=sys.executable))
        hook.chmod(0o755)
        run(root, "init", "--quiet", "--initial-branch=main", str(self.clone))
        for number in range(3):
            run(self.clone, "commit", "--quiet", "--allow-empty", "--message", f"c{number}")
        self.push("main")

    def push(self, *arguments: str, clone: Path | None = None) -> tuple[bool, str]:
        done = subprocess.run(
            ["git", "push", str(self.bare), *arguments], cwd=clone or self.clone, env=ENV,
            check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode == 0, done.stdout

    def refs(self) -> str:
        return run(self.bare, "for-each-ref")


ENV = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.com",
    "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.com",
}  # fmt: skip


def run(where: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=where, env=ENV, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Repositories(tmp_path_factory.mktemp("template"))
    made.make()
    return made.root


@pytest.fixture
def repositories(template: Path, tmp_path: Path) -> Repositories:
    shutil.copytree(template, tmp_path / "all")
    return Repositories(tmp_path / "all")


def shallow(repositories: Repositories) -> Path:
    """A clone of depth 1 with a commit of its own, as CI makes one, of another repository."""
    origin, made = repositories.root / "origin", repositories.root / "shallow"
    run(
        repositories.root, "clone", "--quiet", "--bare", f"file://{repositories.clone}", origin.name
    )
    work = repositories.root / "work"
    run(repositories.root, "clone", "--quiet", f"file://{origin}", work.name)
    for number in range(2):
        run(work, "commit", "--quiet", "--allow-empty", "--message", f"upstream {number}")
    run(work, "push", "--quiet", "origin", "main")
    run(repositories.root, "clone", "--quiet", "--depth=1", f"file://{origin}", made.name)
    return made


def annotated(repositories: Repositories) -> None:
    run(repositories.clone, "tag", "--annotate", "--message", "a", "v1")
    # the client asks for --force itself where a branch is to become something else
    run(repositories.clone, "branch", "topic")


def branch_below(repositories: Repositories) -> None:
    run(repositories.clone, "branch", "dir/x")
    assert repositories.push("dir/x")[0]
    run(repositories.clone, "branch", "--move", "dir/x", "other")
    run(repositories.clone, "branch", "dir")


def fast_forwards_only(repositories: Repositories) -> None:
    run(repositories.bare, "config", "receive.denyNonFastForwards", "true")
    run(repositories.clone, "commit", "--quiet", "--amend", "--allow-empty", "--message", "other")


def no_deletes(repositories: Repositories) -> None:
    run(repositories.bare, "config", "receive.denyDeletes", "true")
    run(repositories.clone, "branch", "topic")
    assert repositories.push("topic")[0]


def locked(repositories: Repositories) -> None:
    run(repositories.clone, "commit", "--quiet", "--allow-empty", "--message", "next")
    (repositories.bare / "refs/heads/main.lock").touch()


def head_locked(repositories: Repositories) -> None:
    """As git does for a moment to write the branch to which HEAD points."""
    run(repositories.clone, "commit", "--quiet", "--allow-empty", "--message", "next")
    (repositories.bare / "HEAD.lock").touch()


def packed_refs_locked(repositories: Repositories) -> None:
    run(repositories.clone, "branch", "topic")
    assert repositories.push("topic")[0]
    (repositories.bare / "packed-refs.lock").touch()


@pytest.mark.parametrize(
    ("prepare", "push", "why"),
    [
        (annotated, ["--force", "v1:refs/heads/fresh"], "points at a commit"),
        (annotated, ["--force", "v1:refs/heads/main"], "points at a commit"),
        (annotated, ["--force", "main^{tree}:refs/heads/fresh"], "points at a commit"),
        (branch_below, ["dir"], "at the same time"),
        (branch_below, ["--atomic", "dir", "other"], "at the same time"),
        (branch_below, ["main:refs/heads/a", "main:refs/heads/a/b"], "at the same time"),
        (fast_forwards_only, ["--force", "main"], "only fast-forwards"),
        (no_deletes, ["--delete", "topic"], "refuses to delete"),
        (no_deletes, ["--delete", "main"], "refuses to delete"),
        (lambda _: None, ["--delete", "main"], "current branch"),
        (locked, ["main"], "main is locked"),
        (head_locked, ["main"], "HEAD is locked"),
        (packed_refs_locked, ["--delete", "topic"], "packed-refs is locked"),
    ],
)
def test_what_git_refuses_is_refused_first(
    repositories: Repositories,
    prepare: Callable[[Repositories], None],
    push: list[str],
    why: str,
) -> None:
    prepare(repositories)
    before = repositories.refs()
    accepted, said = repositories.push(*push)
    assert not accepted
    assert "refused: " in said
    assert why in said
    assert repositories.refs() == before
    # and git itself does so, after its hook: the push is not refused for nothing
    (repositories.bare / "unchecked").touch()
    accepted, said = repositories.push(*push)
    assert not accepted
    assert "refused: " not in said
    assert "pre-receive hook declined" not in said


@pytest.mark.parametrize(
    ("prepare", "push"),
    [(locked, ["main"]), (head_locked, ["main"]), (packed_refs_locked, ["--delete", "topic"])],
)
def test_a_lock_of_a_killed_git_is_removed(
    repositories: Repositories, prepare: Callable[[Repositories], None], push: list[str]
) -> None:
    prepare(repositories)
    (lock,) = repositories.bare.rglob("*.lock")
    old = time.time() - refs.ABANDONED_SECONDS - 1
    os.utime(lock, (old, old))
    accepted, said = repositories.push(*push)
    assert accepted, said
    assert not lock.exists()


def test_a_lock_of_before_the_boot_is_removed(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = repositories.bare / "refs/heads/main.lock"
    lock.touch()
    update = refs.Update("0" * 40, "1" * 40, "refs/heads/main")
    monkeypatch.setattr(refs, "LOCK_SECONDS", 0.0)
    with pytest.raises(PushRefused, match="less than 60 s ago"):
        refs._check_lock(repositories.bare, update)
    monkeypatch.setattr(time, "clock_gettime", lambda _: -1.0)  # booted a second from now
    refs._check_lock(repositories.bare, update)
    assert not lock.exists()


def test_a_shallow_clone_is_refused_and_its_full_history_accepted(
    repositories: Repositories,
) -> None:
    clone = shallow(repositories)
    accepted, said = repositories.push("--force", "main", clone=clone)
    assert not accepted
    assert "git fetch --unshallow" in said
    assert "fetch-depth: 0" in said
    (repositories.bare / "unchecked").touch()
    accepted, said = repositories.push("--force", "main", clone=clone)
    assert not accepted
    assert "shallow" in said
    (repositories.bare / "unchecked").unlink()
    run(clone, "fetch", "--quiet", "--unshallow")
    assert repositories.push("main", clone=clone)[0]


def test_a_shallow_clone_of_what_is_there_is_accepted(repositories: Repositories) -> None:
    run(repositories.root, "clone", "--quiet", "--depth=1", f"file://{repositories.bare}", "thin")
    clone = repositories.root / "thin"
    run(clone, "commit", "--quiet", "--allow-empty", "--message", "on top")
    accepted, said = repositories.push("main", clone=clone)
    assert accepted, said
    assert not (repositories.bare / "shallow").exists()


def test_other_refs_than_branches_and_tags_are_refused(repositories: Repositories) -> None:
    for ref in ("refs/replace/" + "1" * 40, "refs/notes/commits", "refs/x"):
        accepted, said = repositories.push(f"main:{ref}")
        assert not accepted
        assert "neither a branch nor a tag" in said


def test_what_git_accepts_is_accepted(repositories: Repositories) -> None:
    annotated(repositories)
    assert repositories.push("v1")[0]
    run(repositories.clone, "tag", "v2", "HEAD~1")
    for push in (
        ["--force", "HEAD~1:main"], ["HEAD:refs/heads/b/c", "HEAD:refs/heads/b/d"], ["--tags"],
        ["--atomic", "main:x", "v1"], ["main:refs/heads/übung", "main^{tree}:refs/tags/tree"],
        ["--push-option=x", "main:y"], ["--force", "v2:refs/tags/v1", "v2:refs/heads/from-tag"],
        ["--mirror"],
    ):  # fmt: skip
        accepted, said = repositories.push(*push)
        assert accepted, said


@pytest.mark.parametrize(
    "name",
    ["main", "a/b-c_d/1", "-x", "a.lock", "a..b", "a.", "a//b", "@", "a@{b", "a/.b", "ä", "a b"],
)
def test_a_name_that_git_is_not_asked_about_is_one_that_it_allows(name: str) -> None:
    ref = f"refs/heads/{name}"
    asked = subprocess.run(["git", "check-ref-format", ref], check=False).returncode == 0
    assert bool(refs._PLAIN.fullmatch(ref)) <= asked
    assert bool(refs._PLAIN.fullmatch(ref)) == (name in ("main", "a/b-c_d/1"))


def test_a_look_knows_the_files_of_pushed_commits(repositories: Repositories) -> None:
    """Also one whose path has a blank; what is no commit has none."""
    (repositories.clone / "an app").mkdir()
    (repositories.clone / "an app/gatling.toml").write_text("x = 1\n")
    before = run(repositories.clone, "rev-parse", "HEAD")
    run(repositories.clone, "add", ".")
    run(repositories.clone, "commit", "--quiet", "--message", "a file")
    assert repositories.push("main")[0]
    after, path = run(repositories.clone, "rev-parse", "HEAD"), "an app/gatling.toml"
    updates = [refs.Update("0" * 40, new, f"refs/heads/{new[:4]}") for new in (before, after)]
    look = refs.Look(repositories.bare, updates, path)
    assert [look.kind(f"{new}:{path}") for new in (before, after)] == ["", "blob"]
    assert [look.kind(new) for new in (before, after)] == ["commit", "commit"]
    assert look.is_complete
    assert not look.only_forwards
    lost = "b" * 40
    gone = refs.Look(repositories.bare, [refs.Update("0" * 40, lost, "refs/heads/x")], path)
    assert (gone.kind(lost), gone.kind(f"{lost}:{path}")) == ("", "")
    assert not gone.is_complete
