"""`gatling doctor` on a laptop and on an embedded home; on a server it is `server check`."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from gatling import __version__
from gatling.cli import targets
from gatling.errors import Exit
from gatling.operations import doctor
from tests.cli.test_history import add

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell
    from tests.cli.far import Far


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that is pushed to a server."""
    made = tmp_path / "project"
    made.mkdir()
    monkeypatch.chdir(made)
    for words in (["init", "--quiet"], ["remote", "add", "gatling", "gatling@web1:shop"]):
        subprocess.run(["git", *words], check=True)
    targets.remotes.cache_clear()
    return made


@pytest.fixture
def server(far: Far) -> Far:
    far.answers(f"gatling {__version__}\n", command="--version")
    far.answers({"name": "ann", "role": "deployer"}, command="whoami")
    far.answers([{"app": "shop"}], command="apps")
    return far


def test_a_laptop_where_all_is_well(shell: Shell, server: Far, project: Path) -> None:
    (project / "gatling.toml").write_text('[deploy]\nbranch = "live"\n')
    said = shell.run("doctor").out
    for line in (
        "ok    remote: gatling is gatling@web1:shop", "ok    gatling.toml: is valid",
        "ok    ssh: gatling@web1 knows you as ann (deployer)",
        "ok    app: shop: exists on the server",
    ):  # fmt: skip
        assert f"{line}\n" in said
    assert "FAIL" not in said
    assert {each["name"] for each in shell.json("doctor")} >= {"git", "ssh", "version", "app"}


def test_a_laptop_where_much_is_wrong(shell: Shell, server: Far, project: Path) -> None:
    (project / "gatling.toml").write_text('[deploy]\nbrunch = "live"\n')
    server.answers("gatling 1.0.0\n", command="--version")
    server.answers([], command="apps")
    said = shell.run("doctor", status=Exit.HOST).out
    assert "FAIL  gatling.toml: gatling.toml, line 2" in said
    assert f"FAIL  version: 1.0.0 on the server, {__version__} here\n      Update the older" in said
    assert "ok    app: shop: the first push creates it\n" in said
    server.answers("", "gatling@web1: Permission denied (publickey).\n", 255, command="--version")
    said = shell.run("doctor", status=Exit.HOST).out
    assert "FAIL  ssh: gatling@web1 could not be reached: gatling@web1: Permission denied" in said


def test_an_embedded_home(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = {each["name"]: each for each in shell.json("doctor")}
    assert found["home"]["what"] == f"{shell.home} has no apps yet"
    assert not shell.home.exists()
    shell.run("load", "shop")
    add(1, "0" * 40)
    said = shell.run("doctor", status=Exit.HOST).out
    assert "FAIL  proxy: nothing listens on 127.0.0.1:9080\n      `gatling up` starts" in said
    assert "FAIL  shop: down (v1)\n      `gatling logs shop -n 50` shows why." in said
    assert "ok    disk: " in said
    monkeypatch.setenv("PATH", str(tmp_path))
    (nginx,) = doctor.programs(("nginx",))
    assert (nginx.ok, nginx.hint) == (False, "On Debian or Ubuntu: apt install nginx-light")
