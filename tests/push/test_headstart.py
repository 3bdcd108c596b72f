"""The VM of a build starts before all else, if it is the one that the build will want."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import output_of

if TYPE_CHECKING:
    from tests.conftest import Project, World

pytestmark = pytest.mark.usefixtures("on_demand")


def vms(project: Project) -> list[int]:
    """Push; which of the programs that the hook has run are VMs for the build."""
    push = project.start_push()
    said = output_of(push, None, project.patience)
    assert push.returncode == 0, said
    lines = (line.removeprefix("remote:").strip() for line in said.splitlines())
    ran = [line for line in lines if line.startswith("+ ")]
    return [number for number, each in enumerate(ran) if "build.exs" in each]


def test_the_hook_starts_it_first_unless_something_has_changed(world: World) -> None:
    project = world.load()
    project.env["GATLING_DEBUG"] = "1"
    assert len(vms(project)) == 1
    project.title("two")
    assert vms(project)[0] == 0  # and perhaps a second one: the first has made the boot script
    project.title("three")
    assert vms(project) == [0]
    assert "three" in world.get().text
    world.run("config", "set", "shop", "--no-restart", "GREETING=hello")
    project.title("four")
    assert vms(project) == [0]  # with the config of now
    project.env["HEX_HOME"] = str(world.root / "hex")
    project.title("five")
    first, second = vms(project)
    assert (first, second > first) == (0, True)
    assert "five" in world.get().text
