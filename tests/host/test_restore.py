"""Restoring backups to a directory that stands for a server's; failures on the way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from gatling.errors import (
    CommandFailed,
    DiskFull,
    GatlingError,
    HelperFailed,
    Interrupted,
    InvalidInput,
    PortTaken,
)
from gatling.host import restore
from gatling.platform.server.helper.apps import LAYOUT
from gatling.state import apps, audit, config, issuance, keys
from tests.host.archives import BLOB, ODD, Server, git, listening, refused


def test_everything_comes_back(old: Server, new: Server, made: Path) -> None:
    said = new.restore(made)
    assert "2 apps" in said
    assert "idle: not running, as before" in said
    assert new.asked == [("app", "idle"), ("app", "shop"), ("certificate-obtain", "")]
    assert new.started == ["recover --units"]
    shop = new.app("shop")
    for entry in ("releases/v1/bin/shop", "logs/deployment-1.log", "logs/job-night_ly-2.log",
                  "state/deep/er/a\nb"):  # fmt: skip
        assert (shop / entry).read_bytes() == (old.app("shop") / entry).read_bytes()
        assert (shop / entry).stat().st_mode == (old.app("shop") / entry).stat().st_mode
        assert int((shop / entry).stat().st_mtime) == int((old.app("shop") / entry).stat().st_mtime)
    assert ODD in os.listdir(os.fsencode(shop / "state"))  # noqa: PTH208 (as bytes)
    assert (shop / "state/link").readlink() == Path("/etc/passwd")
    assert (shop / "releases/v2/start").readlink() == Path("bin/shop")
    assert (shop / "releases/v1/bin/shop").samefile(shop / "releases/v2/bin/shop")
    assert (shop / "lock").is_file()
    for left_out in ("build/junk", "releases/v3.partial", "logs/other", "git/hooks/post-receive"):
        assert not (shop / left_out).exists()
    assert git(shop / "git", "rev-parse", "main") == git(
        old.app("shop") / "git", "rev-parse", "main"
    )
    assert "evil" not in (shop / "git/config").read_text()
    assert "fsckObjects = true" in (shop / "git/config").read_text()
    assert "gatling receive shop" in (shop / "git/hooks/pre-receive").read_text()
    for entry, _, mode in LAYOUT:
        assert stat.S_IMODE((shop / entry).stat().st_mode) == mode
    db = new.database()
    assert apps.get(db, "shop").live_release == 2
    assert config.of_app(db, "shop") == {"SECRET": "s3cret"}
    assert issuance.of_app(db, "shop") == issuance.Issuance(app="shop"), "it has no certificate"
    assert db.value("PRAGMA journal_mode") == "wal"
    assert db.value("SELECT action FROM audit ORDER BY id DESC") == "server restore"
    db.close()
    let_in = new.root / "home/.ssh/authorized_keys"
    assert f"{new.root}/home/bin/gatling ssh-command ann" in let_in.read_text()
    assert let_in.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (new.root / "apps").iterdir() if path.name[0] == "."] == []


def test_more_than_the_disk_takes(new: Server, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100_000}))
    refused(new, made, "needs more", kind=DiskFull)


def test_a_host_with_apps_is_left_alone(old: Server, new: Server, made: Path) -> None:
    old.asked.clear()
    refused(old, made, "has apps: idle, shop")
    (new.root / "apps/stray").mkdir()
    refused(new, made, "No app in the records")


def test_a_port_that_is_taken(new: Server, made: Path, old: Server) -> None:
    db = old.database()
    port = apps.get(db, "shop").node_ports[2]
    db.close()
    with listening(port):
        refused(new, made, f"{port}.*nothing was changed", kind=PortTaken)


def test_a_failure_in_the_middle_is_undone(new: Server, made: Path) -> None:
    before = new.picture()
    new.refused = "shop"
    with pytest.raises(HelperFailed, match="removed"):
        new.restore(made)
    assert new.picture() == before
    assert new.asked == [("app", "idle"), ("app", "shop"), ("forget", "idle"), ("forget", "shop")]
    assert new.started == []


@pytest.mark.parametrize(("error", "kind"), [
    (OSError(28, "full"), DiskFull), (KeyboardInterrupt(), Interrupted),
    (sqlite3.OperationalError("disk I/O"), GatlingError)])  # fmt: skip
def test_a_failure_after_the_records_is_undone(
    error: BaseException, kind: type[GatlingError], new: Server, made: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    db = new.database()
    keys.add(db, "bob", kind="ssh-ed25519", blob=BLOB, fingerprint="y", role="reader", apps=["*"])
    db.close()
    before = new.picture()

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(audit, "record", fail)
    with pytest.raises(kind, match="records are unchanged"):
        new.restore(made)
    after_it = new.picture()
    let_in = str(new.root / "home/.ssh/authorized_keys")
    assert "ssh-command bob" in str(after_it.pop(let_in))
    after_it.pop(str(new.root / "home/.ssh"))
    assert after_it == before


def test_apps_that_cannot_be_started_are_there_nevertheless(new: Server, made: Path) -> None:
    def fail(*_: str) -> None:
        raise CommandFailed("gatling exited with status 8.")

    with pytest.raises(CommandFailed, match="Everything was restored"):
        list(restore.restore(made, new.root, new.ask, fail))
    assert (new.app("shop") / "releases/v2").is_dir()


def test_what_a_killed_restore_has_left_goes_first(new: Server, made: Path) -> None:
    new.ask("app", app="idle")
    (new.root / "apps/.restoring/made").mkdir(parents=True)
    (new.root / "apps/.restoring/made/idle").touch()
    (new.root / "apps/.restoring/apps").mkdir()
    new.restore(made)
    asked = [("forget", "idle"), ("app", "idle"), ("app", "shop"), ("certificate-obtain", "")]
    assert new.asked[1:] == asked


def test_only_on_a_host_of_gatlings(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a Gatling host"):
        list(restore.restore(tmp_path / "b", tmp_path))
