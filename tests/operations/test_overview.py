"""What `apps` and `status` say of instances that are no processes of this machine."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from gatling.cli import cli
from gatling.platform.base import Address, State, Status
from gatling.platform.embedded.certificates import OwnCertificates
from gatling.platform.embedded.instances import EmbeddedInstances
from gatling.platform.open import open_gatling
from gatling.proxy.certificates import Certificate
from gatling.state import apps, issuance, passwords, releases
from gatling.times import day

if TYPE_CHECKING:
    from pathlib import Path

POD = "pod shop-1 (3f2a91c)"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app whose instances have a name and an address of their own, and no process id."""
    monkeypatch.setenv("GATLING_HOME", str(tmp_path / "home"))
    status = Status(State.RUNNING, process=POD, uptime=12.0)

    def statuses(_: object, slots: Any) -> dict[Any, Status]:
        return dict.fromkeys(slots, status)

    monkeypatch.setattr(EmbeddedInstances, "statuses", statuses)
    monkeypatch.setattr(EmbeddedInstances, "process_slots", lambda *_: ["worker.1"])
    monkeypatch.setattr(EmbeddedInstances, "address", lambda *_: Address("10.0.3.7", 4000))
    with open_gatling() as gatling:
        apps.create(gatling.db, "shop", lambda _: True)
        made = releases.Release("shop", 1, "build", None, "a" * 40, "shop", "0.1.0", "1.18", "27",
                                1, "2026-01-01T00:00:00.000Z", None, {})  # fmt: skip
        releases.add(gatling.db, made)
        apps.make_live(gatling.db, "shop", release=1, slot=1, config={})


@pytest.mark.usefixtures("elsewhere")
def test_status_names_what_the_platform_names() -> None:
    # by way of the root command: click keeps the help option of the first call of a command
    said = CliRunner().invoke(cli, ["status", "shop"])
    assert f" {POD}, slot 1, port 4000, up 12" in said.output
    assert f" running, None, {POD}, up 12" in said.output
    found = json.loads(CliRunner().invoke(cli, ["status", "shop", "--json"]).output)
    assert (found["pid"], found["instance"], found["port"]) == (None, POD, 4000)
    assert [(one["pid"], one["instance"]) for one in found["processes"]] == [(None, POD)]


@pytest.mark.usefixtures("elsewhere")
def test_certificates_and_why_there_is_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> tuple[str, str]:
        status = CliRunner().invoke(cli, ["status", "shop"]).output
        return status, CliRunner().invoke(cli, ["apps"]).output

    status, every = said()
    assert "https" not in status
    assert "certificate" not in every

    def kept(_: object, __: str) -> list[Certificate]:
        return [Certificate(id="a" * 32, names=("shop.localhost",), issuer="CA", not_before=0,
                            not_after=until, key="RSA 2048", self_signed=False, alone=False,
                            added=0)]  # fmt: skip

    monkeypatch.setattr(OwnCertificates, "of", kept)
    until = int(time.time()) + 86400
    status, every = said()
    assert re.search(rf"^https +certificate until {day(until)}$", status, re.MULTILINE)
    assert "certificate" not in every
    with open_gatling() as gatling:
        error = "shop.example.com does not resolve: Name or service not known."
        issuance.put(gatling.db, issuance.Issuance(app="shop", error=error))
    status, every = said()
    assert (f"certificate until {day(until)}, no new certificate: {error.rstrip('.')}"
            " (`gatling certificates show shop`)") in status  # fmt: skip
    assert "running, no new certificate" in every
    until = 86400
    status, every = said()
    assert "certificate expired on 1970-01-02, no new certificate" in status
    assert "running, certificate expired" in every
    found = json.loads(CliRunner().invoke(cli, ["status", "shop", "--json"]).output)
    assert found["https_until"] == "1970-01-02T00:00:00.000Z"
    assert found["https_error"] == error


@pytest.mark.usefixtures("elsewhere")
def test_status_names_the_domains_that_require_a_password() -> None:
    def said() -> tuple[str, list[str]]:
        text = CliRunner().invoke(cli, ["status", "shop"]).output
        found = json.loads(CliRunner().invoke(cli, ["status", "shop", "--json"]).output)
        return text, found["password_domains"]

    text, found = said()
    assert ("passwords" in text, found) == (False, [])
    with open_gatling() as gatling:
        passwords.put(gatling.db, "shop", "shop.example.com", "ann", "$6$hash")
    text, found = said()
    assert re.search("^passwords +required for shop.example.com$", text, re.MULTILINE)
    assert found == ["shop.example.com"]
    with open_gatling() as gatling:
        passwords.put(gatling.db, "shop", "*", "bob", "$6$hash")
    text, found = said()
    assert re.search("^passwords +required for all domains$", text, re.MULTILINE)
    assert sorted(found) == ["*", "shop.example.com"]
    assert "$6$" not in text + str(found)


@pytest.mark.usefixtures("elsewhere")
def test_a_process_of_this_machine_has_its_id_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    status = Status(State.RUNNING, process="123", uptime=12.0, pid=123)
    monkeypatch.setattr(
        EmbeddedInstances, "statuses", lambda _, slots: dict.fromkeys(slots, status)
    )
    said = CliRunner().invoke(cli, ["status", "shop"])
    assert " pid 123, slot 1, port 4000" in said.output
    found = json.loads(CliRunner().invoke(cli, ["status", "shop", "--json"]).output)
    assert found["pid"] == 123
    assert "instance" not in found
