"""A project is connected to a server."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from gatling.cli import targets
from gatling.errors import Exit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell
    from tests.cli.far import Far


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: Far) -> Path:
    made = tmp_path / "web"
    made.mkdir()
    (made / "mix.exs").write_text("def project do\n  [\n    app: :my_shop,\n")
    monkeypatch.chdir(made)
    git("init", "--quiet")
    far.answers({"name": "ann", "role": "admin"}, command="whoami")
    far.answers([{"app": "blog"}], command="apps")
    targets.remotes.cache_clear()
    return made


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], check=True, capture_output=True, text=True)
    targets.remotes.cache_clear()
    return done.stdout.strip()


def test_a_remote_is_added_after_the_server_was_asked(
    shell: Shell, far: Far, project: Path
) -> None:
    said = shell.run("remote", "add", "web1").out
    assert "gatling@web1 knows you as ann (admin).\n" in said
    assert "The app my-shop does not exist yet. The first push creates it.\n" in said
    assert git("remote", "get-url", "gatling") == "gatling@web1:my-shop"
    again = shell.run("remote", "add", "gatling@web1").out
    assert "The git remote gatling was already gatling@web1:my-shop\n" in again
    other = shell.run("remote", "add", "web2", status=Exit.INVALID).err
    assert "There is already a git remote gatling: gatling@web1:my-shop" in other
    assert "git remote set-url gatling gatling@web2:my-shop" in other
    said = shell.run("remote", "add", "web2:2222", "--name", "staging", "-a", "blog").out
    assert "does not exist" not in said
    assert "  git push staging HEAD\n" in said
    assert git("remote", "get-url", "staging") == "ssh://gatling@web2:2222/blog"
    assert targets.from_url("ssh://gatling@web2:2222/blog") == targets.parse("web2:2222")


def test_nothing_is_added_where_the_server_lets_nobody_in(
    shell: Shell, far: Far, project: Path
) -> None:
    far.answers("", "gatling@web1: Permission denied (publickey).\n", 255, command="whoami")
    said = shell.run("remote", "add", "web1", status=Exit.HOST).err
    assert "Permission denied (publickey)" in said
    assert "--no-check" in said
    assert git("remote") == ""
    found = shell.json("remote", "add", "[fe80::1]", "--no-check")
    assert found["url"] == "ssh://gatling@[fe80::1]/my-shop"
    assert found["server"] is None
    assert git("remote", "get-url", "gatling") == found["url"]


def test_what_cannot_be_connected(
    shell: Shell, far: Far, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, why in (
        (["-oProxyCommand=x"], "No such option"), (["--", "-x"], "is not a host"),
        (["web1", "--name", "-x y"], "cannot be a remote's name"),
        (["web1", "--app", "A b"], "cannot be an app's name"),
    ):  # fmt: skip
        said = shell.run("remote", "add", *words, status=2 if "option" in why else 3)
        assert why in said.err
    (project / "mix.exs").unlink()
    assert shell.json("remote", "add", "web1", "--name", "other")["app"] == "web"
    monkeypatch.chdir(project.parent)
    assert "no git repository" in shell.run("remote", "add", "web1", status=Exit.INVALID).err
