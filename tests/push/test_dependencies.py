"""Dependencies are got when one is missing or another than the lock says, and not otherwise.

The registry is of the kind that Hex is: mix asks it whenever it gets dependencies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import Project

if TYPE_CHECKING:
    from tests.conftest import World

pytestmark = pytest.mark.usefixtures("on_demand")

REGISTRY = """
defmodule Own.Registry do
  @behaviour Mix.RemoteConverger
  def remote?(_dep), do: true
  def deps(_dep, _lock), do: []
  def post_converge, do: :ok

  def converge(_deps, lock) do
    IO.puts("the registry is asked")
    lock
  end
end

Mix.RemoteConverger.register(Own.Registry)
"""
DEP = """
defmodule {module}.MixProject do
  use Mix.Project
  def project, do: [app: :{name}, version: "0.1.0"]
end
"""
ASKED, THERE = "the registry is asked", "All dependencies are up to date"


class Dependency:
    """A repository of its own."""

    def __init__(self, project: Project, name: str) -> None:
        self.name = name
        self.project = Project(project.world, name, project.world.root / f"{name}.git")
        self.project.directory.mkdir()
        self.project.git("init", "--quiet", "--initial-branch", "main")
        self.project.write("mix.exs", DEP.format(module=name.capitalize(), name=name))
        self.say("first")
        self.source = f'{{:{name}, git: "{self.project.directory}"}}'

    def say(self, text: str) -> None:
        module = self.name.capitalize()
        self.project.write(
            f"lib/{self.name}.ex", f'defmodule {module} do\n  def say, do: "{text}"\nend\n'
        )
        self.project.commit()

    @property
    def lock(self) -> str:
        """As mix.lock has it."""
        commit = self.project.git("rev-parse", "HEAD").strip()
        return f'"{self.name}": {{:git, "{self.project.directory}", "{commit}", []}}'


def lock(shop: Project, *dependencies: Dependency) -> None:
    shop.write("mix.lock", f"%{{\n{','.join(d.lock for d in dependencies)}\n}}\n")


def test_they_are_got_when_something_is_missing_and_only_then(world: World) -> None:
    shop = world.load()
    dep, more = Dependency(shop, "dep"), Dependency(shop, "more")
    mix = (shop.directory / "mix.exs").read_text()
    shop.write("mix.exs", REGISTRY + mix.replace("deps: []", f"deps: [{dep.source}]"))
    shop.replace("lib/counter/page.ex", "def title, do: ", "def title, do: Dep.say() # ")
    lock(shop, dep)
    shop.commit("a dependency")
    assert ASKED in shop.push()
    assert "<h1>first</h1>" in world.get().text

    shop.write("README.md", "nothing of them\n")
    shop.commit()
    said = shop.push()
    assert ASKED not in said
    assert THERE in said

    dep.say("second")
    lock(shop, dep)
    shop.commit("another commit of it")
    assert ASKED in shop.push()
    assert "<h1>second</h1>" in world.get().text

    shop.replace("mix.exs", dep.source, f"{dep.source}, {more.source}")
    lock(shop, dep, more)
    shop.commit("one more")
    assert ASKED in shop.push()

    # it is mix that says what is wrong, as ever
    shop.replace("mix.exs", more.source, '{:more, "~> 1.0", path: "/nowhere"}')
    shop.commit("not there")
    said = shop.push(ok=False)
    assert ASKED in said
    assert "/nowhere" in said
    shop.git("reset", "--hard", "--quiet", "HEAD~1")

    # what else is wrong is told, as ever, when it is compiled
    shop.replace("mix.exs", "deps: [", 'archives: [{:nowhere, "~> 1.0"}], deps: [')
    shop.commit("an archive")
    said = shop.push(ok=False)
    assert ASKED not in said
    assert 'Archive "nowhere" could not be found' in said
    shop.git("reset", "--hard", "--quiet", "HEAD~1")

    # a project's own deps.get is run each time
    alias = 'aliases: ["deps.get": ["deps.get", fn _ -> IO.puts("own") end]], deps: ['
    shop.replace("mix.exs", "deps: [", alias)
    for text in ("with an alias", "once more"):
        shop.write("README.md", f"{text}\n")
        shop.commit(text)
        said = shop.push()
        assert ASKED in said
        assert "       own\n" in said
