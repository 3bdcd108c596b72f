"""An app's own key for private git dependencies and submodules.

A script takes the place of `ssh`: it lets in whom it knows, as a git host does; tests/server has a
real one.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import Project, World, files_with, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no openssh-client"),
    pytest.mark.usefixtures("on_demand"),
]

SSH = """#!/bin/sh
printf '%s\\n' "$@" >{root}/said
key=; for word; do [ "$before" = -i ] && key=$word; before=$word; done
[ -n "$key" ] && [ -f "$key" ] &&
  grep -qF "$(ssh-keygen -y -f "$key" | cut -d' ' -f2)" {root}/let_in ||
  {{ echo "git@localhost: Permission denied (publickey)." >&2; exit 255; }}
cd {root} && eval "exec $word"
"""
DEP = """
defmodule Dep.MixProject do
  use Mix.Project
  def project, do: [app: :dep, version: "0.1.0"]
end
"""


class Private:
    """A host with a private repository, and an app that depends on it."""

    def __init__(self, world: World) -> None:
        self.world, self.root = world, world.root / "git host"
        self.root.mkdir()
        self.key = world.home / "apps/shop/build/ssh/deploy_key"
        (self.root / "let_in").touch()
        ssh = self.root / "bin/ssh"
        ssh.parent.mkdir()
        ssh.write_text(SSH.format(root=shlex.quote(str(self.root))))
        ssh.chmod(0o755)
        world.env["PATH"] = f"{ssh.parent}:{world.env['PATH']}"
        self.repository = Project(world, "dep", self.root / "dep.git")
        self.repository.directory.mkdir()
        self.repository.git("init", "--quiet", "--initial-branch", "main")
        self.repository.write("mix.exs", DEP)
        self.say("private")
        self.shop = world.load()
        self.shop.replace("mix.exs", "deps: []", 'deps: [{:dep, git: "git@localhost:dep.git"}]')
        self.shop.replace("lib/counter/page.ex", "def title, do: ", "def title, do: Dep.say() # ")

    def say(self, text: str) -> None:
        self.repository.write("lib/dep.ex", f'defmodule Dep do\n  def say, do: "{text}"\nend\n')
        self.repository.commit()

    def said(self) -> list[str]:
        """What ssh was called with last."""
        return (self.root / "said").read_text().splitlines()

    def let_in(self, key: str) -> None:
        (self.root / "let_in").write_text(key)

    def without_key(self) -> None:
        if self.key.exists():
            self.world.run("deploy-key", "remove", "shop")

    def with_key(self) -> None:
        """A new one, which is let in."""
        self.without_key()
        self.let_in(self.world.run("deploy-key", "create", "shop"))


@pytest.fixture(scope="module")
def private() -> Iterator[Private]:
    with new_world() as world:
        yield Private(world)


def test_without_a_key_the_way_to_one_is_said(private: Private) -> None:
    private.without_key()
    private.shop.commit()
    output = private.shop.push(ok=False)
    assert "Permission denied (publickey)" in output
    assert "gatling deploy-key create shop" in output
    shown = private.world.try_run("deploy-key", "show", "shop")
    assert (shown.returncode, "`gatling deploy-key create shop` creates one" in shown.stdout) == (
        Exit.NOT_FOUND, True,
    )  # fmt: skip


def test_a_dependency_is_read_with_the_apps_key(private: Private) -> None:
    world = private.world
    private.without_key()
    public = world.run("deploy-key", "create", "shop").strip()
    assert public.startswith("ssh-ed25519 ")
    assert " gatling-shop@" in public
    assert world.run("deploy-key", "show", "shop").strip() == public
    again = world.try_run("deploy-key", "create", "shop")
    assert (again.returncode, "already has a deploy key" in again.stdout) == (Exit.INVALID, True)
    assert private.key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in private.key.parent.iterdir()] == ["deploy_key"]
    private.say("read by a key")
    # not let in yet: the key alone does nothing
    private.shop.commit()
    assert "Permission denied (publickey)" in private.shop.push(ok=False)
    private.let_in(public)
    private.shop.push()
    assert "<h1>read by a key</h1>" in world.get().text
    options = {
        f'UserKnownHostsFile="{private.key.parent}/known_hosts"', "IdentitiesOnly=yes",
        "StrictHostKeyChecking=accept-new", "BatchMode=yes",
    }  # fmt: skip
    assert private.said()[:2] == ["-i", str(private.key)]
    assert options <= set(private.said())


def test_a_submodule_is_read_with_the_apps_key(private: Private) -> None:
    shop = private.shop
    private.with_key()
    environment = shop.env | {"GIT_SSH_COMMAND": f"ssh -i {shlex.quote(str(private.key))}"}
    subprocess.run(
        ["git", "submodule", "--quiet", "add", "git@localhost:dep.git", "sub"],
        cwd=shop.directory, env=environment, check=True,
    )  # fmt: skip
    shop.commit()
    (private.root / "said").unlink()
    shop.push()
    assert (private.world.home / "apps/shop/build/source/sub/mix.exs").exists()
    assert private.said()[:2] == ["-i", str(private.key)]
    shop.git("rm", "--quiet", "-f", "sub", ".gitmodules")
    shop.commit()


def test_its_secret_is_in_no_other_file(private: Private) -> None:
    private.with_key()
    private.shop.commit()
    private.shop.push()
    secret = private.key.read_bytes().splitlines()[3]
    assert len(secret) > 40
    assert files_with(private.world.home, secret) == [private.key]
    audit = private.world.json("audit", "shop")
    assert "deploy-key create" in [entry["action"] for entry in audit]
    assert secret.decode() not in str(audit)


def test_it_is_removed_and_made_anew(private: Private) -> None:
    world = private.world
    private.with_key()
    before = world.run("deploy-key", "show", "shop")
    world.run("deploy-key", "remove", "shop")
    assert list(private.key.parent.iterdir()) == []
    gone = world.try_run("deploy-key", "remove", "shop")
    assert gone.returncode == Exit.NOT_FOUND
    private.say("never seen")
    private.shop.commit()
    assert "Permission denied (publickey)" in private.shop.push(ok=False)
    assert world.run("deploy-key", "create", "shop") != before
    for verb in ("create", "show", "remove"):
        assert world.try_run("deploy-key", verb, "blog").returncode == Exit.NOT_FOUND


def test_an_app_takes_its_key_along(private: Private) -> None:
    private.world.run("load", "gone")
    private.world.run("deploy-key", "create", "gone")
    key = private.world.home / "apps/gone/build/ssh/deploy_key"
    assert key.exists()
    private.world.run("unload", "gone", "--confirm", "gone")
    assert not key.exists()
