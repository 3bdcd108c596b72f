"""The package for laptops: built, installed into an environment of its own, and used as a client.

The client needs Python and ssh. No nginx, no Erlang and no Elixir is on its PATH.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_string
from typing import TYPE_CHECKING

import pytest

from gatling import __version__
from gatling.errors import Exit
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SSH = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"
REPOSITORY = "https://git.example/gatling/blob/main"


def build(directory: Path, **environment: str) -> Path:
    """Build the wheel without an index."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory],
        cwd=ROOT, env=os.environ | environment, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = directory.glob("*.whl")
    return wheel


def description(wheel: Path) -> str:
    """The README of a package, as an index shows it."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return str(message_from_string(archive.read(name).decode()).get_payload())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), GATLING_REPOSITORY="")


class Laptop:
    """A machine with the package and ssh, and nothing else."""

    def __init__(self, root: Path, wheel: Path) -> None:
        self.home = root / "home"
        self.project = root / "project"
        self.programs = root / "programs"
        for directory in (self.home, self.project, self.programs):
            directory.mkdir()
        ssh = self.programs / "ssh"
        ssh.write_text(SSH)
        ssh.chmod(0o755)
        self.venv = root / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.venv], check=True)
        python = self.venv / "bin/python"
        subprocess.run(
            [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check",
             "--python", python, "install", "--no-index", "--no-deps", wheel],
            check=True, capture_output=True,
        )  # fmt: skip
        # the dependencies are those of the tests; a path in a .pth file comes after the package
        (packages,) = self.venv.glob("lib/python3*/site-packages")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(self.home), "PATH": str(self.programs), "LANG": "C.UTF-8"}
        return subprocess.run(
            [self.venv / "bin/gatling", *words], cwd=self.project, env=environment, check=False,
            capture_output=True, text=True,
        )  # fmt: skip


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Laptop:
    return Laptop(tmp_path_factory.mktemp("laptop"), wheel)


def test_the_wheel_has_every_file_that_the_source_has(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "src/gatling"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        assert {name.removeprefix("src/") for name in listed} <= set(archive.namelist())


def test_no_link_of_the_package_s_page_is_relative(wheel: Path, tmp_path: Path) -> None:
    plain = description(wheel)
    assert "](" in plain  # those to other sites
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]+)\)", plain))
    linked = re.findall(
        r"\]\(([^)]+)\)", description(build(tmp_path, GATLING_REPOSITORY=REPOSITORY))
    )
    assert f"{REPOSITORY}/docs/operations.md" in linked
    pages = [one.removeprefix(f"{REPOSITORY}/").partition("#")[0] for one in linked]
    missing = [p for p in pages if not p.startswith("https://") and not (ROOT / p).is_file()]
    assert missing == []


def test_the_code_is_that_of_the_wheel(laptop: Laptop) -> None:
    code = "import gatling; print(gatling.__file__)"
    done = subprocess.run(
        [laptop.venv / "bin/python", "-I", "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(str(laptop.venv))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--version"], __version__),
        (["--help"], "Usage: gatling"),
        (["help", "rollback"], "Usage: gatling rollback"),
        (["deploy", "--help"], "Usage: gatling deploy"),
    ],
)
def test_the_client_explains_itself(laptop: Laptop, words: list[str], shown: str) -> None:
    done = laptop.run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown in done.stdout


def test_a_command_goes_to_the_server_over_ssh(laptop: Laptop) -> None:
    done = laptop.run("--host", "gatling@box.example:2222", "config", "set", "shop", "A=b c")
    assert done.returncode == 0, done.stderr
    typed = done.stdout.split("\n")
    assert "gatling@box.example" in typed
    assert "config set shop 'A=b c'" in typed


def test_a_gatling_toml_is_written(laptop: Laptop) -> None:
    (laptop.project / "mix.exs").write_text("")
    done = laptop.run("init")
    assert done.returncode == 0, done.stderr
    assert "# [health]" in (laptop.project / "gatling.toml").read_text()


@pytest.mark.parametrize("words", [["apps"], ["status", "shop"], ["logs", "shop"]])
def test_without_a_server_the_client_says_how_to_name_one(laptop: Laptop, words: list[str]) -> None:
    done = laptop.run(*words)
    assert "Traceback" not in done.stderr
    assert "nginx" not in done.stderr
    if words != ["apps"]:
        assert done.returncode == Exit.NOT_FOUND
        assert "gatling --host gatling@SERVER" in done.stderr
    assert not (laptop.home / ".gatling").exists()
