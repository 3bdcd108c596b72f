"""The sample project of Gatling 1 with every callback there is deploys and upgrades, as it was.

The order, and where Gatling's own steps are in it, is in golden/.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import new_world, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World

SAMPLE = Path(__file__).parent / "sample"
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def home() -> Iterator[World]:
    with new_world() as made:
        yield made


@pytest.fixture(scope="module")
def first(home: World) -> tuple[Project, str]:
    """The sample, deployed; what was printed."""
    project = home.load("sample", strategy="auto")
    home.run("settings", "set", "sample", "hot.watch=0.05")
    for file in SAMPLE.iterdir():
        shutil.copy(file, project.directory)
    project.commit()
    return project, project.push()


def steps(world: World) -> list[str]:
    """The steps of the newest deployment, in order; all have ended well."""

    def ended() -> Any:  # a boot check may go on after the push
        every = world.last("sample")["steps"]
        return every if all(step["outcome"] != "running" for step in every) else None

    found = until(ended, "the end of all steps")
    assert {step["outcome"] for step in found} == {"succeeded"}
    return [step["name"] for step in found]


def assert_called_once_in_order(text: str, names: list[str]) -> None:
    called = re.findall(r"^ +(\d+) ((?:before|after)_\w+) sample$", text, re.MULTILINE)
    assert called == [(str(n), name) for n, name in enumerate(names, 1)]
    assert called
    assert "$ sh -c echo in $(basename $PWD) (" in text
    assert re.search(r"^ +in source$", text, re.MULTILINE)


def of_callbacks(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(("before_", "after_"))]


def defined(file: str) -> list[str]:
    return re.findall(r"def ((?:before|after)_\w+)", (SAMPLE / file).read_text())


def test_the_first_deployment_calls_each_callback_of_deploy_exs(
    first: tuple[Project, str], home: World
) -> None:
    _, text = first
    done = steps(home)
    assert done == (GOLDEN / "deploy.txt").read_text().split()
    assert of_callbacks(done) == defined("deploy.exs")
    assert_called_once_in_order(text, defined("deploy.exs"))


def test_its_domains_are_served(first: tuple[Project, str], home: World) -> None:
    wanted = ["www.example.com", "sample_project.hashrocket.com", "api.example.com"]
    assert home.json("domains", "list", "sample") == [*wanted, "sample.localhost"]
    for domain in wanted:
        assert home.get("/", host=domain).status == 200


@pytest.mark.parametrize("strategy", ["hot", "rolling"])
def test_each_later_one_calls_each_callback_of_upgrade_exs(
    first: tuple[Project, str], home: World, strategy: str
) -> None:
    project, _ = first
    wanted = "auto" if strategy == "hot" else strategy
    home.run("settings", "set", "sample", f"deploy.strategy={wanted}", "instance.drain=0")
    project.title(strategy)
    text = project.push()
    assert home.last("sample")["strategy"] == strategy
    done = steps(home)
    assert done == (GOLDEN / f"upgrade-{strategy}.txt").read_text().split()
    assert of_callbacks(done) == defined("upgrade.exs")
    assert_called_once_in_order(text, defined("upgrade.exs"))
    assert not [line for line in home.processes() if "build.exs" in line]


def test_going_back_calls_none(first: tuple[Project, str], home: World) -> None:
    project, _ = first
    project.title("to be taken back")
    project.push()
    home.run("rollback", "sample", "v1")
    assert not of_callbacks(steps(home))
