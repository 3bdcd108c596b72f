"""Assets: what a project needs for them is asked of mix when the dependencies are there.

A script takes the place of npm where it is counted how often it is called; packages of the real one
come from the project itself, so that no registry is needed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import World, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("on_demand")

NPM = """#!/bin/sh
echo "$PWD $*" >>{log}
[ ! -f broken ] || {{ printf 'npm ERR! 404 “left-pad”\\n\\377\\n'; exit 1; }}
rm -rf node_modules
mkdir -p node_modules/own && echo made >node_modules/own/index.js
"""
DIGEST = """
defmodule Mix.Tasks.Phx.Digest do
  use Mix.Task
  def run(_) do
    File.mkdir_p!("priv/static")
    File.write!("priv/static/digested", "by phx.digest")
  end
end
"""
ALIAS = """aliases: ["assets.deploy": fn _ ->
        File.mkdir_p!("priv/static")
        made = File.read("assets/node_modules/own/index.js")
        File.write!("priv/static/app.js", inspect(made))
      end],
      deps: []"""


class Assets:
    """An app with assets, and a count of what npm was requested."""

    def __init__(self, world: World) -> None:
        self.world, self.log = world, world.root / "npm.log"
        bin_ = world.root / "bin"
        bin_.mkdir()
        (bin_ / "npm").write_text(NPM.format(log=shlex.quote(str(self.log))))
        (bin_ / "npm").chmod(0o755)
        self.npm = bin_ / "npm"
        world.env["PATH"] = f"{bin_}:{world.env['PATH']}"
        self.project = world.load()
        self.mix = (self.project.directory / "mix.exs").read_text()

    def given(self, package: str, *, lock: str | None = "{}", own_task: bool = True) -> None:
        """A project with assets like these, whatever a test before has left."""
        for left in ("assets", "priv"):
            shutil.rmtree(self.project.directory / left, ignore_errors=True)
        self.project.write("mix.exs", self.mix.replace("deps: []", ALIAS) if own_task else self.mix)
        self.project.write("lib/digest.ex", DIGEST)
        self.project.write("assets/package.json", package)
        if lock is not None:
            self.project.write("assets/package-lock.json", lock)
        self.calls()

    def push(self, *, ok: bool = True) -> str:
        self.project.commit()
        return self.project.push(ok=ok)

    def calls(self) -> list[str]:
        """What npm was requested since this was called last."""
        said = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line.split(" ", 1)[1] for line in said]

    def static(self, file: str) -> str:
        release = self.world.status()["release"]
        return (self.tree(release) / "priv/static" / file).read_text()

    def tree(self, release: str, app: str = "counter") -> Path:
        (found,) = (self.world.home / "apps/shop/releases" / release / "lib").glob(f"{app}-*")
        return found

    def steps(self) -> list[str]:
        return [step["name"] for step in self.world.last()["steps"]]


@pytest.fixture(scope="module")
def assets() -> Iterator[Assets]:
    with new_world() as world:
        yield Assets(world)


def package(test: str, **more: object) -> str:
    """What asks for packages; other ones in each test."""
    return json.dumps({"name": test, "dependencies": {"own": "1.0.0"}} | more)


def test_nothing_is_made_of_no_assets(assets: Assets) -> None:
    assets.given(package("none"), own_task=False)
    assets.push()
    assert not {"mix_digest", "npm_install"} & set(assets.steps())


def test_phoenix_own_digest(assets: Assets) -> None:
    assets.given('{"type": "module", "dependencies": { } }', own_task=False)
    assets.project.write("priv/static/robots.txt", "")
    assets.push()
    assert "mix_digest" in assets.steps()
    assert assets.static("digested") == "by phx.digest"
    assert assets.calls() == []  # it asks for no packages


def test_the_digest_of_a_phoenix_before_1_3(assets: Assets) -> None:
    assets.given("{}", own_task=False)
    assets.project.write(
        "lib/digest.ex", DIGEST.replace("Phx", "Phoenix").replace("phx", "phoenix")
    )
    assets.project.write("priv/static/robots.txt", "old")
    assets.push()
    assert assets.static("digested") == "by phoenix.digest"


def test_the_projects_own_task_after_npm(assets: Assets) -> None:
    assets.given(package("own task"))
    assets.push()
    assert assets.calls() == ["ci --include=dev --no-audit --no-fund"]
    steps = assets.steps()
    assert steps.index("npm_install") < steps.index("mix_digest") < steps.index("mix_release")
    assert "made" in assets.static("app.js")


def test_npm_is_asked_again_only_for_other_packages(assets: Assets) -> None:
    assets.given(package("again"))
    assets.push()
    assert len(assets.calls()) == 1
    assets.project.title("other code")
    assets.push()
    assert "npm_install" not in assets.steps()
    assert "made" in assets.static("app.js")
    assets.project.write("assets/package-lock.json", '{"packages": {}}')
    assets.push()
    assert len(assets.calls()) == 1
    (assets.project.directory / "assets/package-lock.json").unlink()
    os.utime(assets.npm, (1, 1))  # another npm
    assets.push()
    assert assets.calls() == ["install --no-package-lock --include=dev --no-audit --no-fund"]


def test_a_failure_of_npm_fails_the_push_and_is_not_forgotten(assets: Assets) -> None:
    assets.given(package("failure"), lock=None)
    assets.project.write("assets/broken", "")
    output = assets.push(ok=False)
    assert "npm ERR! 404 “left-pad”\n       <<255>>" in output
    assert "npm install in assets exited with status 1" in output
    assert "npm install failed" in output
    (assets.project.directory / "assets/broken").unlink()
    assets.push()
    assert len(assets.calls()) == 2


def test_another_package_manager_is_the_projects_own_business(assets: Assets) -> None:
    assets.given(package("yarn"), lock=None)
    assets.project.write("assets/yarn.lock", "")
    assets.push()
    assert assets.calls() == []


def test_without_npm_it_is_said_how_to_get_it(assets: Assets) -> None:
    others = assets.world.root / "others"
    others.mkdir()
    for directory in reversed(assets.world.env["PATH"].split(":")):
        for program in Path(directory).iterdir() if Path(directory).is_dir() else ():
            if program.name != "npm":
                (others / program.name).unlink(missing_ok=True)
                (others / program.name).symlink_to(program)
    before = assets.world.env["PATH"]
    assets.world.env["PATH"] = str(others)
    try:
        assets.given(package("no npm"))
        output = assets.push(ok=False)
    finally:
        assets.world.env["PATH"] = before
    assert "assets/package.json needs npm packages, and npm is not installed here" in output
    assert "apt install npm" in output


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_the_real_npm(assets: Assets) -> None:
    before = assets.world.env["PATH"]
    assets.world.env["PATH"] = before.removeprefix(f"{assets.npm.parent}:")
    try:
        assets.given(package("real", dependencies={"own": "file:./own"}), lock=None)
        assets.project.write("assets/own/package.json", '{"name": "own", "version": "1.0.0"}')
        assets.project.write("assets/own/index.js", "module.exports = 'by npm'\n")
        assets.push()
        assert "by npm" in assets.static("app.js")
        subprocess.run(["npm", "install", "--package-lock-only", "--no-audit"], check=True,
                       cwd=assets.project.directory / "assets", capture_output=True)  # fmt: skip
        assets.push()
        assert "npm_install" in assets.steps()
        assets.project.title("unchanged packages")
        assets.push()
        assert "npm_install" not in assets.steps()
        assert "by npm" in assets.static("app.js")
    finally:
        assets.world.env["PATH"] = before
