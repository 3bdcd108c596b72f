"""The domains that a project names itself: when they are in force, and whose word counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import new_world, output_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World

pytestmark = pytest.mark.usefixtures("on_demand", "shared_builds")


@pytest.fixture(scope="module")
def home() -> Iterator[World]:
    with new_world() as made:
        yield made


@pytest.fixture(scope="module")
def named(home: World) -> Project:
    project = home.load()
    home.run("settings", "set", "shop", "instance.drain=0")
    project.write("domains", "a.example\n")
    project.commit()
    assert "also served under a.example" in project.push()
    return project


def domains(home: World) -> list[str]:
    found: list[str] = home.json("domains", "list", "shop")
    return found


def change(project: Project, text: str) -> None:
    project.write("domains", text)
    project.title("again")


def test_the_first_one_stands_for_the_app(named: Project, home: World) -> None:
    assert domains(home)[0] == "a.example"
    assert home.status()["url"].startswith("http://a.example:")
    assert home.get("/", host="a.example").status == 200


def test_what_is_new_is_added_and_nothing_else(named: Project, home: World) -> None:
    home.run("domains", "add", "shop", "b.example")
    change(named, "a.example\nb.example\nc.example\n")
    named.push()
    assert home.get("/", host="c.example").status == 200
    home.run("domains", "remove", "shop", "c.example")
    change(named, "a.example\nb.example\nc.example\nd.example\n")
    named.push()
    assert domains(home)[-1] == "d.example"
    assert "c.example" not in domains(home)


def test_a_deployment_that_fails_takes_them_back(named: Project, home: World) -> None:
    before = domains(home)
    named.write("domains", "a.example\ne.example\n")
    named.write("upgrade.exs", "defmodule U do\n  def before_upgrade_service(_), do: 1 = 2\nend\n")
    named.commit()
    push = named.start_push()
    home.at_step("mix_compile")
    # what an operator does meanwhile stays
    home.run("domains", "add", "shop", "operator.example")
    home.run("domains", "remove", "shop", before[-1])
    text = output_of(push, 1)
    assert "also served under e.example" in text
    assert domains(home) == [*before[:-1], "operator.example"]
    assert home.get("/", host="e.example").status != 200
    named.git("rm", "-q", "upgrade.exs")


def test_what_is_no_domain_rejects_the_push_before_the_build(named: Project, home: World) -> None:
    change(named, "a.example\n}; proxy_pass http://evil\n")
    text = named.push(ok=False)
    assert "domains, line 2: '};' is not a domain." in text
    assert home.steps() == ["export_source"]


def test_a_domain_of_another_app_rejects_the_push_before_the_build(
    named: Project, home: World
) -> None:
    home.run("load", "blog")
    change(named, "a.example\nblog.localhost\n")
    text = named.push(ok=False)
    assert "blog.localhost belongs to the app blog." in text
    assert home.steps() == ["export_source"]
    assert home.try_run("deploy", "shop", named.git("rev-parse", "HEAD")).returncode in (
        Exit.INVALID, Exit.NOT_FOUND
    )  # fmt: skip
    home.run("unload", "blog", "--confirm", "blog")
