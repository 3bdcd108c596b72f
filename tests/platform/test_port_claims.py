"""Which home has drawn which port."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatling.platform import port_claims
from tests.conftest import new_world


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "ports"


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "two"


def test_a_port_is_the_first_homes_until_it_gives_it_back(
    registry: Path, homes: tuple[Path, Path]
) -> None:
    one, two = homes
    port_claims.take([20001, 20002], one, registry)
    port_claims.take([20002, 20003], two, registry)
    owners = [port_claims.owner(port, two, registry) for port in (20001, 20002, 20003, 20004)]
    assert owners == [one, one, None, None]
    assert port_claims.owner(20001, one, registry) is None
    port_claims.give_back([20001, 20002, 20003], two, registry)
    assert port_claims.owner(20002, two, registry) == one
    port_claims.give_back([20001, 20002], one, registry)
    assert port_claims.owner(20002, two, registry) is None
    assert registry.stat().st_mode & 0o7777 == 0o1777


def test_a_home_that_was_removed_has_none(registry: Path, homes: tuple[Path, Path]) -> None:
    one, two = homes
    port_claims.take([20001], one, registry)
    one.rmdir()
    assert port_claims.owner(20001, two, registry) is None
    port_claims.take([20001], two, registry)
    assert port_claims.owner(20001, Path("/other"), registry) == two


def test_what_others_leave_there_does_no_harm(
    registry: Path, homes: tuple[Path, Path], tmp_path: Path
) -> None:
    port_claims.take([20001], homes[0], registry)
    os.mkfifo(registry / "20002")
    (registry / "20003").symlink_to("/etc/passwd")
    (registry / "20004").write_bytes(b"\xff" * 9000)
    (registry / "20005").mkdir()
    ports = range(20002, 20006)
    assert {port_claims.owner(port, homes[1], registry) for port in ports} == {None}
    port_claims.take(ports, homes[0], registry)
    (tmp_path / "file").touch()
    port_claims.take([20001], homes[1], tmp_path / "file")
    assert port_claims.owner(20001, homes[1], tmp_path / "not/there") is None


def test_two_homes_of_one_machine_draw_other_ports() -> None:
    with new_world() as one, new_world() as two:
        two.env["GATLING_PORTS"] = one.env["GATLING_PORTS"]
        drawn = []
        for world, app in ((one, "shop"), (two, "blog"), (one, "wiki")):
            world.run("load", app)
            drawn += world.status(app)["ports"]
        assert len(set(drawn)) == 6
        two.run("unload", "blog", "--confirm", "blog")
        one.run("load", "cafe")
        assert set(one.status("cafe")["ports"]) & set(drawn)
