"""root's helper and the pools of connections: what it refuses, writes and removes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gatling.platform.server import pool_units
from gatling.platform.server.helper import database_packages

if TYPE_CHECKING:
    from pathlib import Path

    from tests.platform.server.helper.conftest import Helper

GOOD: dict[str, Any] = {"verb": "pool", "app": "shop", "databases": ["shop"], "size": 20}
UNIT = "gatling-pool-shop.service"


@pytest.fixture
def etc(helper: Helper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configurations, beside an app and a PgBouncer."""
    program = tmp_path / "pgbouncer"
    program.write_text("#!/bin/sh\necho PgBouncer 1.18.0\n")
    program.chmod(0o755)
    monkeypatch.setattr(pool_units, "PROGRAM", program)
    monkeypatch.setattr(pool_units, "CONFIGURATIONS", tmp_path / "pools")
    (helper.server / "apps" / "shop").mkdir()
    return tmp_path / "pools"


@pytest.mark.parametrize("wrong", [
    {"app": "blog"}, {"app": "../shop"}, {"app": 5}, {"databases": []}, {"databases": "shop"},
    {"databases": ["shop\nauth_type = trust"]}, {"databases": ["*"]}, {"databases": [5]},
    {"databases": [f"d{number}" for number in range(65)]}, {"size": 0}, {"size": 1001},
    {"size": "20"}, {"size": 20.5}, {"size": True},
])  # fmt: skip
def test_a_pool_that_cannot_be(helper: Helper, etc: Path, wrong: dict[str, Any]) -> None:
    before = helper.files()
    assert "refused" in helper.ask(GOOD | wrong)
    assert helper.calls == []
    assert helper.files() == before
    assert not etc.exists()


def test_a_pool_is_written_and_removed(helper: Helper, etc: Path) -> None:
    assert helper.ask(GOOD) == {}
    written = (etc / "shop.ini").read_text()
    assert "shop = host='/run/gatling-databases/shop' port=5432" in written
    assert "max_prepared_statements" not in written, "1.18 would not start with it"
    assert "User=gatling-shop" in (helper.units / UNIT).read_text()
    link = helper.units / "multi-user.target.wants" / UNIT
    assert link.is_symlink()
    assert ["systemctl", "reload-or-restart", UNIT] in helper.calls
    helper.forget()
    assert helper.ask(GOOD | {"databases": ["my-shop", "shop"], "size": 7}) == {}
    assert "default_pool_size = 7" in (etc / "shop.ini").read_text()
    assert helper.calls == [["systemctl", "reload-or-restart", UNIT]]

    assert helper.ask({"verb": "pool-remove", "app": "shop"}) == {}
    assert not link.is_symlink()
    assert not (helper.units / UNIT).exists()
    assert not (etc / "shop.ini").exists()
    helper.forget()
    assert helper.ask({"verb": "pool-remove", "app": "shop"}) == {}
    assert helper.calls == [], "there is nothing to remove"


def test_an_app_that_is_removed_leaves_no_pool(helper: Helper, etc: Path) -> None:
    helper.ask(GOOD)
    helper.ask({"verb": "forget", "app": "shop"})
    assert not (helper.units / UNIT).exists()
    assert not (etc / "shop.ini").exists()


def test_without_pgbouncer(
    helper: Helper, etc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pool_units, "PROGRAM", tmp_path / "missing")
    answer = helper.ask(GOOD)
    assert answer["refused"] == "PgBouncer is not installed on this server."
    assert not etc.exists()


def test_the_package_is_installed_without_its_own_service(
    helper: Helper, etc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(database_packages, "NO_MAIN", tmp_path / "no_main")
    monkeypatch.setattr(pool_units, "PROGRAM", tmp_path / "missing")
    helper.ask({"verb": "pool-install"})
    script = helper.attended[-1][-1]
    assert script.startswith("systemctl mask -q pgbouncer.service && ")
    assert script.index(" pgbouncer)") < script.index("systemctl disable -q pgbouncer.service")
    assert ";" not in script
    assert "$" not in script, "systemd would expand it"
