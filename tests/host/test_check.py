"""What `gatling server check` finds, on hosts that are made up."""

from __future__ import annotations

import contextlib
import os
import pwd
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from gatling.errors import CommandFailed, HelperFailed
from gatling.host import changes, check_apps, check_machine, clusters, findings, libraries, machine
from gatling.host import check as subject
from gatling.host.findings import Finding
from gatling.platform.server import router, units
from gatling.platform.server.helper.apps import LAYOUT
from gatling.state import apps, backups, databases, drains, notices
from gatling.state.database import open_database
from tests.host.archives import create, listening
from tests.platform.test_postgres_health import WELL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ME = pwd.getpwuid(os.geteuid()).pw_name


def faults(found: Iterable[Finding]) -> list[str]:
    every = list(found)
    assert every
    assert all(one.hint for one in every if not one.ok)
    return [one.what for one in every if not one.ok]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with an app whose user, and Gatling's, is who runs the tests."""
    monkeypatch.setattr(units, "OWNER", ME)
    monkeypatch.setattr(units, "user", lambda _: ME)
    monkeypatch.setattr(machine, "UNITS", tmp_path / "units")
    monkeypatch.setattr(check_apps, "_user", lambda _: iter(()))
    # this user has other processes, some of which a box may have upgraded packages under
    monkeypatch.setattr(libraries, "replaced", lambda *_, **__: [])
    (tmp_path / "home").mkdir()
    db = open_database(tmp_path / "home" / "state.db")
    create(db, "shop")
    db.close()
    for entry, _, mode in LAYOUT:
        (tmp_path / "apps/shop" / entry).mkdir(parents=True)
        (tmp_path / "apps/shop" / entry).chmod(mode)
    for slot in apps.SLOTS:
        (tmp_path / "units" / f"gatling@shop.{slot}.service.d").mkdir(parents=True)
        (tmp_path / "units" / f"gatling@shop.{slot}.service.d" / "app.conf").touch()
    return tmp_path


def test_a_host_without_gatling(tmp_path: Path) -> None:
    (one,) = subject.check(tmp_path)
    assert not one.ok
    assert "gatling server install" in one.hint


def test_one_check_that_breaks_does_not_keep_the_others_back(server: Path) -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("a", True, "this far")
        raise ValueError("odd")

    def fails() -> Iterator[Finding]:
        raise CommandFailed("git exited.", hint="mend git", log=["x", "why"])

    def forbidden() -> Iterator[Finding]:
        raise PermissionError

    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "a": breaks, "b": fails, "c": forbidden, "d": lambda: [Finding("d", True, "fine")],
    }  # fmt: skip
    found = subject.check(server, checks)
    assert [(one.name, one.ok) for one in found] == [
        ("a", True), ("a", False), ("b", False), ("d", True), ("rights", True)]  # fmt: skip
    assert "odd" in found[1].what
    assert found[2] == Finding("b", False, "git exited. x why", "mend git")
    assert "c" in found[4].what


def test_every_check_ends_on_any_machine(server: Path) -> None:
    """Whatever is missing here is a finding, not an error of the check's own."""
    for one in subject.check(server):
        assert one.ok or one.hint


def test_http3_that_nginx_lacks(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx = tmp_path / "nginx"
    monkeypatch.setattr(router, "NGINX", str(nginx))
    assert list(check_apps.http3_of_apps(server)) == [], "no app requests it"
    db = open_database(server / "home/state.db")
    apps.change_settings(db, "shop", lambda _: {"proxy.http3": "true"})
    db.close()
    for version, said in (
        ("1.22.1", "shop: proxy.http3 is not applied. This server's nginx was built without"),
        ("1.26.3", "nginx serves shop over HTTP/3 as well"),
    ):
        nginx.write_text(f"#!/bin/sh\necho nginx/{version} --with-http_v3_module >&2\n")
        nginx.chmod(0o755)
        (one,) = check_apps.http3_of_apps(server)
        assert one.ok
        assert one.what.startswith(said)


def test_what_install_would_change(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [changes.Change("write x", lambda: True, print), changes.Change("y", bool, print)]
    monkeypatch.setattr(changes, "changes", lambda: iter(made))
    assert faults(check_machine.installation()) == ["Incomplete: write x"]
    del made[0]
    assert faults(check_machine.installation()) == []


def test_code_that_others_can_write(tmp_path: Path) -> None:
    assert faults(check_machine.location([Path("/usr/bin")])) == []
    (tmp_path / "code").mkdir(mode=0o777)
    (tmp_path / "code").chmod(0o777)
    assert len(faults(check_machine.location([tmp_path / "code"]))) == 1


@pytest.mark.parametrize(
    ("reason", "ok"), [("unknown-verb", True), ("", False), ("refused", False), (None, False)]
)
def test_the_helper(reason: str | None, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_: str) -> None:
        if reason is not None:
            raise HelperFailed("The helper does not do it.", reason=reason)

    monkeypatch.setattr(units, "OWNER", ME)
    assert (faults(check_machine.helper(ask)) == []) == ok


def test_the_home_that_is_asked_about_is_the_one_that_is_checked(server: Path) -> None:
    (server / "apps/shop/slots/worker.1").mkdir(parents=True)
    (one,) = faults(check_apps.every_app(server))
    assert one.endswith("gatling@shop.worker.1.service.d/app.conf is missing.")


def test_an_app_with_all_that_is_its(server: Path) -> None:
    (one,) = check_apps.every_app(server)
    assert one == Finding("app shop", True, "stopped")


def test_an_app_that_lacks_much(server: Path) -> None:
    shop = server / "apps" / "shop"
    (shop / "state").chmod(0o777)
    (shop / "git").rmdir()
    (shop / "logs").rmdir()
    (shop / "logs").symlink_to("state")
    (server / "units" / "gatling@shop.2.service.d" / "app.conf").unlink()
    db = open_database(server / "home" / "state.db")
    apps.make_live(db, "shop", release=1, slot=2, config=None)
    db.close()
    told = "\n".join(faults(check_apps.every_app(server)))
    for what in ("/state is not", "/git is missing", "/logs is not", "shop.2.service.d/app.conf",
                 "gatling@shop.2.service is"):  # fmt: skip
        assert what in told
    assert told.count("\n") == 4


def test_records_are_read_without_a_change(server: Path) -> None:
    database = server / "home" / "state.db"
    before = database.read_bytes()
    assert [app.name for app in findings.records(server)] == ["shop"]
    assert database.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="others do not see whose a port is")
def test_strangers_on_ports(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(check_apps.app_ports(server)) == []
    port = findings.records(server)[0].node_ports[2]
    with listening(port):
        assert faults(check_apps.app_ports(server)) == []  # the app's own user
        monkeypatch.setattr(units, "user", lambda _: "nobody")
        (what,) = faults(check_apps.app_ports(server))
        assert f"pid {os.getpid()}" in what
        assert str(port) in what


@pytest.mark.skipif(os.geteuid() != 0, reason="others do not see whose a port is")
def test_what_ends_while_it_is_looked_at_is_no_stranger(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second instance of a boot check, for example, ends after the push has returned."""
    port = findings.records(server)[0].node_ports[2]
    with listening(port):
        every = psutil.net_connections(kind="tcp")
    (one,) = [each for each in every if each.laddr and each.laddr.port == port]
    seen = [[one._replace(pid=None)], []]
    monkeypatch.setattr(psutil, "net_connections", lambda **_: seen.pop(0))
    assert faults(check_apps.app_ports(server)) == []
    assert seen == []


SHOWN = "\n".join(f"{name} {value}" for name, value in check_machine.FORCED.items())


def test_databases(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"postgresql@15-gatling.shop.1.service": "active"}
    monkeypatch.setattr(clusters, "_facts", lambda _: WELL)
    monkeypatch.setattr(clusters, "_state", lambda unit: states.get(unit, "failed"))
    assert [one.what for one in check_apps.databases_of_apps(server)] == ["0 databases, none fails"]
    with contextlib.closing(open_database(server / "home" / "state.db")) as db:
        for number, name in enumerate(("shop", "events", "half", "gone")):
            databases.add(db, name, "shop", 15, f"URL_{number}")
        for name in ("shop", "events"):
            databases.mark(db, name, "ready")
        databases.mark(db, "gone", "removing", "/a/copy.dump")
    assert [(one.what, one.hint) for one in check_apps.databases_of_apps(server)] == [
        ("The database events does not run: postgresql@15-gatling.events.1.service is failed.",
         "`systemctl status postgresql@15-gatling.events.1.service` says why."),
        ("The removal of the database gone was not completed.",
         "`gatling db destroy shop --name gone` completes it."),
        ("The database half was not completed.",
         "`gatling db create shop --name half` completes it."),
        ("no proved backup: events, shop", ""),
    ]  # fmt: skip


def test_backups(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_state", lambda _: "active")
    monkeypatch.setattr(clusters, "_facts", lambda _: WELL)
    with contextlib.closing(open_database(server / "home" / "state.db")) as db:
        databases.add(db, "events", "shop", 15, "DATABASE_URL")
        databases.mark(db, "events", "ready")
        backups.record(db, "events", "")
        assert [one.ok for one in check_apps.databases_of_apps(server)] == [True]
        backups.record(db, "events", "the rows of orders differ")
    (found,) = check_apps.databases_of_apps(server)
    assert "The last backup of events failed: the rows of orders differ. The last" in found.what
    assert found.hint == "`gatling db backup shop --name events` makes another one."


@pytest.mark.skipif(os.geteuid() != 0, reason="others may not ask a database")
def test_the_health_of_databases(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_state", lambda _: "active")
    with contextlib.closing(open_database(server / "home" / "state.db")) as db:
        databases.add(db, "events", "shop", 15, "DATABASE_URL")
        databases.mark(db, "events", "ready")
    (found,) = faults(check_apps.databases_of_apps(server))
    assert found == "The database events does not answer."  # there is no such cluster here
    monkeypatch.setattr(clusters, "_facts", lambda _: replace(WELL, connections=99))
    (found,) = faults(check_apps.databases_of_apps(server))
    assert found == "events: 99 of 100 connections are in use."


def test_a_channel_that_fails(server: Path) -> None:
    assert [one.ok for one in check_apps.notifications(server)] == [True]
    with contextlib.closing(open_database(server / "home" / "state.db")) as db:
        notices.put(db, notices.Channel("ops", "mail", "mailto:a@b", "", ("*",), ("*",), "now"))
        for _ in range(check_apps.MANY_FAILURES):
            notices.refused(db, "ops", error="No mail server.", retry_at=0)
    (found,) = check_apps.notifications(server)
    assert (found.ok, found.what) == (False, "channel ops: No mail server.")


def test_samples(server: Path) -> None:
    (found,) = check_apps.watch(server)
    assert (found.ok, found.what) == (True, "off")
    with contextlib.closing(open_database(server / "home" / "state.db")) as db, db.transaction():
        notices.set_condition(db, "watch", "on")
    assert faults(check_apps.watch(server)) == ["It is on, but takes no samples."]
    file = server / "home" / "samples.db"
    file.touch()
    assert faults(check_apps.watch(server)) == []
    os.utime(file, (1, 1))
    assert len(faults(check_apps.watch(server))) == 1


def test_a_drain_that_fails(server: Path) -> None:
    assert [one.ok for one in check_apps.log_drains(server)] == [True]
    with contextlib.closing(open_database(server / "home" / "state.db")) as db:
        app = apps.every(db)[0].name
        ident = drains.add(db, app, "https://logs.example.com/").id
        for _ in range(check_apps.MANY_FAILURES):
            drains.refused(db, ident, "No answer.")
    (found,) = check_apps.log_drains(server)
    assert (found.ok, found.what) == (False, f"drain {ident} of {app}: No answer.")


def test_what_sshd_forces() -> None:
    assert faults(check_machine.sshd(f"port 22\n{SHOWN}")) == []
    (what,) = faults(check_machine.sshd(SHOWN.replace("passwordauthentication no", "p yes")))
    assert "passwordauthentication ?" in what
    assert (
        len(
            faults(
                check_machine.sshd(SHOWN.replace("disableforwarding yes", "disableforwarding no"))
            )
        )
        == 1
    )
    assert len(faults(check_machine.sshd(""))) == len(check_machine.FORCED)


def test_keys(server: Path) -> None:
    assert faults(check_machine.keys(server)) == ["No key is authorized."]
    file = server / "home" / ".ssh" / "authorized_keys"
    file.parent.mkdir()
    file.write_text("# nobody\n\n")
    file.chmod(0o600)
    assert faults(check_machine.keys(server)) == ["No key is authorized."]
    file.write_text("restrict ssh-ed25519 A ann\n")
    assert faults(check_machine.keys(server)) == []
    file.chmod(0o640)
    assert len(faults(check_machine.keys(server))) == 1


@pytest.mark.parametrize(
    ("blocks", "free", "inodes", "left", "count"),
    [(1 << 20, 1 << 19, 1000, 500, 0), (1 << 20, 1 << 16, 1000, 500, 1),
     (1 << 19, 1 << 17, 9, 9, 1), (1 << 20, 1 << 19, 1000, 99, 1),
     (1 << 20, 1 << 19, 0, 0, 0), (1 << 20, 0, 1000, 0, 2)],
)  # fmt: skip
def test_the_disk(
    blocks: int, free: int, inodes: int, left: int, count: int,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    values = (4096, 4096, blocks, free, free, inodes, left, left, 0, 255)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))
    assert len(faults(check_machine.disk(tmp_path))) == count


def test_memory(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  480000 kB\nMemFree: 1 kB\n")
    assert faults(check_machine.memory(file)) == []
    file.write_text("MemTotal:  250000 kB\n")
    assert faults(check_machine.memory(file)) == ["244 MiB"]


@pytest.mark.parametrize(
    ("synchronised", "service", "container", "ok"),
    [("yes", "", "none", True), ("no", "chrony.service", "none", True), ("no", "", "lxc", True),
     ("no", "", "none", False), ("", "", "", False)],
)  # fmt: skip
def test_the_clock(synchronised: str, service: str, container: str, ok: bool) -> None:
    def says(*argv: str) -> str:
        if argv[0] == "systemctl":
            return "active" if argv[2] == service else "inactive"
        return synchronised if argv[0] == "timedatectl" else container

    assert (faults(check_machine.clock(says)) == []) == ok


def test_programs_that_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(check_machine, "search_path", lambda: str(tmp_path))
    assert faults(check_machine.programs()) == [
        f"{p} is not installed." for p in ("elixir", "git", "nginx")
    ]
