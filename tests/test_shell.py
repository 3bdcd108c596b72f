"""Shell that stands in Python files is checked as bin/test checks that of bin/."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from gatling.deploy import watcher
from gatling.operations import apps
from gatling.platform.server import units
from gatling.platform.server.helper import nginx
from gatling.releases import distillery
from tests.places import embedded_home

if TYPE_CHECKING:
    from pathlib import Path


def check(text: str, *options: str) -> None:
    done = subprocess.run(
        ["shellcheck", "--norc", "--shell=sh", *options, "-"],
        input=text, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "text",
    [watcher._SCRIPT, distillery._ONCE, nginx.TEST[4], apps.HOOK.format(command="g", app="shop"),
     units.RECORD_END.replace("$$", "$")],
    ids=["watcher", "distillery", "nginx", "hook", "unit"],
)  # fmt: skip
def test_shell_in_texts(text: str) -> None:
    # `read` into a variable that is not used only waits
    check(text, "--exclude=SC2034")


def test_the_command_of_a_home(tmp_path: Path) -> None:
    home = embedded_home(tmp_path / "home")
    check(home.command.read_text())
