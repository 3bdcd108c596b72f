"""Projects that are more than one application: a monorepo's, an umbrella's, several releases."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.conftest import new_world
from tests.push.test_assets import NPM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World

GREETER = """
defmodule Greeter.MixProject do
  use Mix.Project
  def project, do: [app: :greeter, version: "0.1.0"{more}]
end
"""
RELEASES = "releases: [web: [applications: [counter: :permanent]], worker: []]"
WITHIN = """,
    build_path: "../../_build", config_path: "../../config/config.exs", deps_path: "../../deps",
    lockfile: "../../mix.lock\""""
ALIAS = """,
    aliases: ["assets.deploy": fn _ ->
      File.mkdir_p!("priv/static")
      File.cp!("assets/node_modules/own/index.js", "priv/static/app.js")
    end]"""
UMBRELLA = """
defmodule Shop.MixProject do
  use Mix.Project
  def project do
    [apps_path: "apps", version: "0.1.0", deps: [], releases: [
      web: [applications: [counter: :permanent, greeter: :permanent]],
      worker: [applications: [greeter: :permanent]]]]
  end
end
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with new_world() as made:
        yield made


def put(project: Project, directory: str, *, below: str) -> None:
    """Move everything into a directory, and the application itself into one below that."""
    moved = project.directory / directory / below
    moved.mkdir(parents=True)
    for entry in sorted(project.directory.iterdir()):
        if entry.name in ("lib", "mix.exs") and below:
            project.git("mv", entry.name, f"{directory}/{below}/")
        elif entry.name not in (directory.partition("/")[0], ".git"):
            project.git("mv", entry.name, f"{directory}/")


def greeting(project: Project, directory: str, text: str) -> None:
    project.write(
        f"{directory}/lib/greeter.ex", f'defmodule Greeter do\n  def greet, do: "{text}"\nend\n'
    )


def greets(project: Project, directory: str) -> None:
    page = f"{directory}/lib/counter/page.ex"
    project.replace(page, "def title, do: ", "def title, do: Greeter.greet() # ")


def test_a_path_dependency_outside_of_the_apps_directory(world: World) -> None:
    """A monorepo: the pushed commit has it, and a change of it is a change of the app."""
    world.run("load", "shop", "--dir", "apps/shop")
    project = world.project()
    put(project, "apps/shop", below="")
    outside = 'deps: [{:greeter, path: "../../libs/greeter"}]'
    project.replace("apps/shop/mix.exs", "deps: []", f"{outside}, {RELEASES}")
    project.write("libs/greeter/mix.exs", GREETER.format(more=""))
    greeting(project, "libs/greeter", "from libs")
    greets(project, "apps/shop")
    project.commit()
    output = project.push(ok=False)
    assert "Choose one: `gatling settings set shop build.release=NAME`" in output
    project.write("apps/shop/gatling.toml", '[build]\nrelease = "web"\n[hot]\nwatch = 0.05\n')
    project.commit()
    project.push()
    assert "<h1>from libs</h1>" in world.get().text
    pid = world.status()["pid"]
    greeting(project, "libs/greeter", "by change")
    project.commit()
    project.push()
    assert "<h1>by change</h1>" in world.get().text
    assert (world.last()["strategy"], world.status()["pid"]) == ("hot", pid)
    source = world.home / "apps/shop/build/source"
    assert not (source / "libs/greeter/_build").exists()
    project.write("README.md", "beside it\n")
    project.commit()
    assert "Compiling" not in project.push()


def test_an_umbrella_below_the_root_whose_app_has_assets(world: World) -> None:
    log, npm = world.root / "npm.log", world.root / "bin/npm"
    npm.parent.mkdir()
    npm.write_text(NPM.format(log=shlex.quote(str(log))))
    npm.chmod(0o755)
    world.env["PATH"] = f"{npm.parent}:{world.env['PATH']}"
    world.run("load", "blog", "--dir", "backend")
    world.run("settings", "set", "blog", "build.release=web")
    project = world.project("blog")
    put(project, "backend", below="apps/counter")
    own = "backend/apps/counter"
    project.replace(
        f"{own}/mix.exs", "deps: []", f"deps: [{{:greeter, in_umbrella: true}}]{WITHIN}{ALIAS}"
    )
    project.write("backend/mix.exs", UMBRELLA)
    project.write("backend/apps/greeter/mix.exs", GREETER.format(more=WITHIN))
    greeting(project, "backend/apps/greeter", "in an umbrella")
    greets(project, own)
    dependencies = {"dependencies": {"own": "1.0.0"}}
    project.write(f"{own}/assets/package.json", json.dumps(dependencies))
    project.write(f"{own}/assets/package-lock.json", "{}")
    project.commit()
    project.push()
    assert "<h1>in an umbrella</h1>" in world.get(host="blog.localhost").text
    assert log.read_text().count(f"{own}/assets ci") == 1
    (made,) = (world.home / "apps/blog/releases/v1/lib").glob("counter-*/priv/static/app.js")
    assert made.read_text() == "made\n"
    # no npm again: its packages are kept between builds, whether or not the project ignores them
    greeting(project, "backend/apps/greeter", "unchanged assets")
    project.commit()
    project.push()
    assert "<h1>unchanged assets</h1>" in world.get(host="blog.localhost").text
    assert log.read_text().count(" ci") == 1
    # another release of the same project
    world.run("settings", "set", "blog", "build.release=nowhere")
    output = project.push("main", options=("--force",), ok=True)
    assert "Everything up-to-date" in output
    failed = world.try_run("deploy", "blog")
    assert "Unknown release :nowhere" in failed.stdout
    assert failed.returncode == 6
