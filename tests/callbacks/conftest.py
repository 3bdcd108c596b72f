"""An app with callbacks that the tests of a module share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.conftest import new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World


class Called:
    """A project whose callbacks a test writes."""

    def __init__(self, project: Project) -> None:
        self.project, self.world = project, project.world
        self.live = project.world.status()["release"]

    def upgrade(self, body: str) -> None:
        """An upgrade.exs with these functions."""
        text = f"defmodule Shop.UpgradeCallbacks do\n  import Gatling.Bash\n{body}\nend\n"
        self.project.write("upgrade.exs", text)

    def hook(self, name: str, script: str, mode: int = 0o755) -> None:
        self.project.write(f".gatling/hooks/{name}", script)
        (self.project.directory / ".gatling/hooks" / name).chmod(mode)

    def nothing(self) -> None:
        """No callbacks any more."""
        self.project.git("rm", "-rq", "--ignore-unmatch", "--cached", "upgrade.exs", ".gatling")
        self.project.git("clean", "-fdq")

    def push(self, *, ok: bool = True, title: str = "") -> str:
        self.project.title(title or "again")
        return self.project.push(ok=ok)

    def steps(self) -> dict[str, str]:
        """The steps of the newest deployment, and how they ended."""
        return {step["name"]: step["outcome"] for step in self.world.last()["steps"]}

    def machines(self) -> list[str]:
        """VMs that build, or call callbacks."""
        return [line for line in self.world.processes() if "build.exs" in line]


@pytest.fixture(scope="module", autouse=True)
def boots_quickly(on_demand: None) -> None:
    """Load modules on demand: the tests are about what runs around the boots."""


@pytest.fixture(scope="module")
def home() -> Iterator[World]:
    with new_world() as made:
        yield made


@pytest.fixture(scope="module")
def deployed(home: World) -> Called:
    """Upgraded rolling: it is the same for callbacks, and quick."""
    project = home.load()
    home.run("settings", "set", "shop", "instance.drain=0")
    project.push()
    return Called(project)


@pytest.fixture
def shop(deployed: Called) -> Iterator[Called]:
    deployed.live = deployed.world.status()["release"]
    yield deployed
    deployed.nothing()


def lines_after(text: str, step: str) -> list[str]:
    """What was printed in a step."""
    found = re.search(rf"^       {step}\n((?:         .*\n)*)", text, re.MULTILINE)
    assert found, text
    return [line.strip() for line in found[1].splitlines() if line.strip()]
