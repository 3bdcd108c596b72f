"""Backup and restore in a directory that stands for a server's; archives of bad people, too."""

from __future__ import annotations

import copy
import gzip
import io
import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatling.deploy import lock
from gatling.errors import (
    CommandFailed,
    DiskFull,
    GatlingError,
    HelperFailed,
    Interrupted,
    InvalidInput,
    PortTaken,
)
from gatling.helper.service import LAYOUT
from gatling.releases.untrusted import leads_out
from gatling.server import backup as subject
from gatling.state import apps, audit, config, keys, releases
from gatling.state.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.state.database import Database

Members = list[tuple[tarfile.TarInfo, bytes]]
BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIODUsybq3cZr3fbKy2t/WtzvOvzOHgNhXrgKCg3nfp8n"
ODD = b"\xff\xfe"


class Server:
    """A directory like /var/lib/gatling, and a helper that makes and removes apps in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, str]] = []
        self.started: list[str] = []
        self.refused = ""
        for name in ("home/bin", "home/run", "apps", "routes"):
            (root / name).mkdir(parents=True)
        self.database().close()

    def database(self) -> Database:
        return open_database(self.root / "home" / "state.db")

    def app(self, name: str) -> Path:
        return self.root / "apps" / name

    def ask(self, verb: str, *, app: str, **_: Any) -> None:
        self.asked.append((verb, app))
        if verb == "forget":
            shutil.rmtree(self.app(app), ignore_errors=True)
            return
        if app == self.refused:
            raise HelperFailed("no")
        for entry, _whose, mode in LAYOUT:
            (self.app(app) / entry).mkdir(parents=True)
            (self.app(app) / entry).chmod(mode)

    def start(self, *words: str) -> None:
        self.started.append(" ".join(words))

    def restore(self, file: Path) -> str:
        return "\n".join(subject.restore(file, self.root, self.ask, self.start))

    def picture(self) -> dict[str, object]:
        """All that is there, but for SQLite's journals."""
        found: dict[str, object] = {}
        for path in sorted(self.root.rglob("*")):
            if path.name.startswith("state.db"):
                continue
            info = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
            found[str(path)] = (info.st_mode, content)
        with sqlite3.connect(self.root / "home" / "state.db") as db:
            found["records"] = list(db.iterdump())
        db.close()
        return found


def release(number: int) -> releases.Release:
    return releases.Release("shop", number, "build", None, "a" * 40, "shop", "0.1.0", "1.18", "27",
                            {}, 1, "2026-01-01T00:00:00.000Z", None)  # fmt: skip


def filled(root: Path) -> Server:
    """A server with a deployed app, and one that is empty."""
    server = Server(root)
    db = server.database()
    for name in ("shop", "idle"):
        apps.create(db, name, lambda port: port % 3 > 0)
        server.ask("app", app=name)
        (server.app(name) / "lock").touch()
    config.replace(db, "shop", {"SECRET": "s3cret"})
    for number in (1, 2):
        releases.add(db, release(number))
    apps.make_live(db, "shop", release=2, slot=1, config=None)
    keys.add(db, "ann", kind="ssh-ed25519", blob=BLOB, fingerprint="SHA256:x", role="admin",
             apps=["*"])  # fmt: skip
    db.close()
    shop = server.app("shop")
    for number in (1, 2):
        (shop / f"releases/v{number}/bin").mkdir(parents=True)
        (shop / f"releases/v{number}/start").symlink_to("bin/shop")
    (shop / "releases/v1/bin/shop").write_text("#!/bin/sh\n")
    (shop / "releases/v1/bin/shop").chmod(0o555)
    os.link(shop / "releases/v1/bin/shop", shop / "releases/v2/bin/shop")
    (shop / "releases/v3.partial").mkdir()
    (shop / "logs/deployment-1.log").write_text("built\n")
    (shop / "logs/other").write_text("")
    (shop / "state/deep/er").mkdir(parents=True)
    (shop / "state/deep/er/a\nb").write_text("data")
    os.close(os.open(os.fsencode(shop / "state") + b"/" + ODD, os.O_CREAT | os.O_WRONLY, 0o640))
    (shop / "state/link").symlink_to("/etc/passwd")
    (shop / "build/junk").write_text("not in it")
    git(shop / "git", "init", "-q", "--bare", "-b", "main")
    tree = git(shop / "git", "hash-object", "-t", "tree", "-w", "/dev/null")
    git(shop / "git", "update-ref", "refs/heads/main",
        git(shop / "git", "commit-tree", "-m", "one", tree))  # fmt: skip
    git(shop / "git", "config", "core.fsmonitor", "/evil")
    (shop / "git/hooks").mkdir(exist_ok=True)
    (shop / "git/hooks/post-receive").write_text("evil")
    return server


def git(directory: Path, *words: str) -> str:
    identity = {f"GIT_{who}_{what}": "t" for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")}  # fmt: skip
    env = os.environ | identity | {"GIT_DIR": "."}
    done = subprocess.run(
        ["git", *words], cwd=directory, env=env, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def old(tmp_path: Path) -> Server:
    return filled(tmp_path / "old")


@pytest.fixture
def new(tmp_path: Path) -> Server:
    return Server(tmp_path / "new")


@pytest.fixture
def made(old: Server, tmp_path: Path) -> Path:
    subject.backup(tmp_path / "b.tar.gz", old.root)
    return tmp_path / "b.tar.gz"


def read(file: Path) -> Members:
    with tarfile.open(file, encoding="utf-8", errors="surrogateescape") as tar:
        return [(m, (f.read() if m.isreg() and (f := tar.extractfile(m)) else b"")) for m in tar]


def write(file: Path, members: Members, *, count: int | None = None) -> Path:
    """An archive of these members; the last is made to say how many they are."""
    end = json.dumps({"members": len(members) - 1 if count is None else count}).encode()
    with tarfile.open(file, "w:gz", errors="surrogateescape") as tar:
        for info, content in members:
            text = end if info.name == "end.json" else content
            if info.isreg():
                info.size = len(text)
            tar.addfile(info, io.BytesIO(text) if info.isreg() else None)
    return file


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b"evil" if kind == tarfile.REGTYPE else b""


def after(members: Members, name: str, *more: tuple[tarfile.TarInfo, bytes]) -> Members:
    at = next(n for n, (info, _) in enumerate(members) if info.name == name) + 1
    return [*members[:at], *more, *members[at:]]


def test_everything_comes_back(old: Server, new: Server, made: Path) -> None:
    said = new.restore(made)
    assert "2 apps" in said
    assert "idle: not running, as before" in said
    assert new.asked == [("app", "idle"), ("app", "shop")]
    assert new.started == ["recover --units"]
    shop = new.app("shop")
    for entry in ("releases/v1/bin/shop", "logs/deployment-1.log", "state/deep/er/a\nb"):
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
    assert db.value("PRAGMA journal_mode") == "wal"
    assert db.value("SELECT action FROM audit ORDER BY id DESC") == "server restore"
    db.close()
    let_in = new.root / "home/.ssh/authorized_keys"
    assert f"{new.root}/home/bin/gatling ssh-command ann" in let_in.read_text()
    assert let_in.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (new.root / "apps").iterdir() if path.name[0] == "."] == []


def test_a_backup_is_its_owners_alone_and_replaces_nothing(old: Server, made: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o600
    before = made.read_bytes()
    with pytest.raises(InvalidInput, match="exists already"):
        subject.backup(made, old.root)
    dangling = made.with_name("link")
    dangling.symlink_to(made.with_name("nowhere"))
    with pytest.raises(InvalidInput, match="exists already"):
        subject.backup(dangling, old.root)
    assert made.read_bytes() == before
    assert sorted(p.name for p in made.parent.iterdir()) == ["b.tar.gz", "link", "old"]


def test_equal_files_of_releases_are_in_it_once(made: Path) -> None:
    links = {info.name: info.linkname for info, _ in read(made) if info.islnk()}
    assert links == {"apps/shop/releases/v2/bin/shop": "apps/shop/releases/v1/bin/shop"}


def test_what_cannot_be_in_it_is_told(old: Server, tmp_path: Path) -> None:
    os.mkfifo(old.app("shop") / "state" / "pipe")
    deep = old.app("shop") / "state"
    for _ in range(120):
        deep /= "d"
        deep.mkdir()
    said = subject.backup(tmp_path / "b.tar.gz", old.root)
    assert "left out: 'apps/shop/state/pipe'" in said
    assert said.count("left out") == 2


def test_a_full_disk_leaves_no_file(
    old: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(DiskFull):
        subject.backup(tmp_path / "b.tar.gz", old.root)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_a_deployment_is_held_off_while_its_app_is_copied(
    old: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(app: str) -> bool:
        with lock.try_hold(old.app(app) / "lock") as free:
            return not free

    seen = {}
    real = subject._Writer._directory

    def spy(self: Any, path: str, within: int | None, where: tuple[str, ...]) -> None:
        seen[where[1:3]] = (held("idle"), held("shop"))
        real(self, path, within, where)

    monkeypatch.setattr(subject._Writer, "_directory", spy)
    subject.backup(tmp_path / "b.tar.gz", old.root)
    assert seen["idle", "state"] == (True, True)
    assert seen["shop", "logs"] == (False, True)
    assert (held("idle"), held("shop")) == (False, False)


def test_a_file_that_shrinks_meanwhile_does_not_break_a_backup(
    old: Server, new: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = old.app("shop") / "state" / "log"
    file.write_text("x" * 100_000)
    real = subject._Exactly.__init__

    def cut(self: Any, opened: Any) -> None:
        if os.fstat(opened.fileno()).st_size == 100_000:
            os.truncate(file, 10)
        real(self, opened)

    monkeypatch.setattr(subject._Exactly, "__init__", cut)
    subject.backup(tmp_path / "b.tar.gz", old.root)
    new.restore(tmp_path / "b.tar.gz")
    assert (new.app("shop") / "state/log").read_bytes() == b"x" * 10 + bytes(99_990)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others")
def test_an_app_cannot_have_others_files_backed_up(tmp_path: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="gatling-", dir="/tmp"))  # where others can come
    try:
        old = filled(root / "old")
        state = old.app("shop") / "state"
        for path in (root, old.root, old.root / "apps", old.app("shop")):
            path.chmod(0o755)
        (state / "roots").write_text("root only")
        (state / "roots").chmod(0o600)
        for path in (state, *(state / name for name in ("deep", "deep/er", "deep/er/a\nb"))):
            os.chown(path, 65534, 65534)
        said = subject.backup(tmp_path / "b.tar.gz", old.root)
    finally:
        shutil.rmtree(root)
    assert "left out: 'apps/shop/state/roots'" in said
    contents = [content for _, content in read(tmp_path / "b.tar.gz")]
    assert b"data" in contents
    assert b"root only" not in contents
    assert os.geteuid() == os.getegid() == 0


V1 = "apps/shop/releases/v1"
REG, SYM, HARD, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
ADDED = {
    "up": ("apps/shop/state", member("apps/shop/state/../../../x")),
    "up at the end": ("apps/shop/state", member("apps/shop/state/..", DIR)),
    "dot": ("apps/shop/state", member("apps/shop/state/./x")),
    "nothing": ("apps/shop/state", member("apps/shop/state//x")),
    "absolute": ("apps/shop/state", member("/etc/cron.d/x")),
    "top": ("authorized_keys", member("home/.ssh/authorized_keys")),
    "device": ("apps/shop/state", member("apps/shop/state/a", tarfile.CHRTYPE)),
    "block": ("apps/shop/state", member("apps/shop/state/a", tarfile.BLKTYPE)),
    "fifo": ("apps/shop/state", member("apps/shop/state/a", tarfile.FIFOTYPE)),
    "contiguous": ("apps/shop/state", member("apps/shop/state/a", tarfile.CONTTYPE)),
    "unknown kind": ("apps/shop/state", member("apps/shop/state/a", b"Z")),
    "hook": ("apps/shop/git", member("apps/shop/git/hooks", DIR)),
    "config": ("apps/shop/git", member("apps/shop/git/config")),
    "alternates": ("apps/shop/git/objects", member("apps/shop/git/objects/info/alternates")),
    "link in git": ("apps/shop/git/refs", member("apps/shop/git/refs/heads", SYM, "/etc")),
    "link in logs": ("apps/shop/logs", member("apps/shop/logs/deployment-0.log", SYM, "/etc/x")),
    "newline": ("apps/shop/logs", member("apps/shop/logs/deployment-1.log\n")),
    "build": ("apps/shop", member("apps/shop/build", DIR)),
    "work": ("apps/shop", member("apps/shop/slots", DIR)),
    "file as directory": ("apps/shop/state", member("apps/shop/state/a/b")),
    "out of a release": (V1, member(f"{V1}/a", SYM, "/etc/passwd")),
    "up out of a release": (V1, member(f"{V1}/a", SYM, "../../../git")),
    "back through a link": (V1, member(f"{V1}/a", SYM, "bin/../../x")),
    "empty link": (V1, member(f"{V1}/a", SYM, "")),
    "hard link to state": (V1, member(f"{V1}/a", HARD, "apps/shop/state/x")),
    "hard link out": (V1, member(f"{V1}/a", HARD, "/etc/shadow")),
    "hard link to a link": (f"{V1}/start", member(f"{V1}/t", HARD, f"{V1}/start")),
    "hard link to itself": (V1, member(f"{V1}/a", HARD, f"{V1}/a")),
    "hard link in state": ("apps/shop/state", member("apps/shop/state/a", HARD, f"{V1}/bin/shop")),
    "release 0": ("apps/shop/releases", member("apps/shop/releases/v0", DIR)),
    "release x": ("apps/shop/releases", member("apps/shop/releases/incoming", DIR)),
    "long part": ("apps/shop/state", member("apps/shop/state/" + "a" * 256)),
    "long name": ("apps/shop/state", member("apps/shop/state/" + "a/" * 1950 + "a")),
    "other app": ("apps", member("apps/evil", DIR)),
    "app newline": ("apps", member("apps/a\nb", DIR)),
    "app dots": ("apps", member("apps/..", DIR)),
    "app hidden": ("apps", member("apps/.restoring", DIR)),
    "twice": ("apps/shop/state/deep", member("apps/shop/state/deep", DIR)),
    "file over link": ("apps/shop/state/link", member("apps/shop/state/link")),
    "below a link": ("apps/shop/state/link", member("apps/shop/state/link/x")),
    "out of order": ("apps/shop/state/link", member("apps/shop/state/a")),
    "after the end": ("end.json", member("apps/shop/state/z")),
}  # fmt: skip


@pytest.mark.parametrize("what", ADDED)
def test_what_does_not_belong_into_an_archive(what: str, new: Server, made: Path) -> None:
    name, (info, content) = ADDED[what]
    refused(new, write(made, after(read(made), name, (copy.copy(info), content))))


def test_a_name_with_a_nul(new: Server, made: Path) -> None:
    info, content = member("apps/shop/state/x")
    info.pax_headers = {"path": "apps/shop/state/a\0b"}  # nothing else can carry one
    refused(new, write(made, after(read(made), "apps/shop/state", (info, content))), "belong")


def refused(
    new: Server, file: Path, match: str | None = None, kind: type[GatlingError] = InvalidInput
) -> None:
    before = new.picture()
    with pytest.raises(kind, match=match):
        new.restore(file)
    assert new.picture() == before
    assert not new.asked
    assert not new.started


def changed(members: Members, name: str, change: Callable[[bytes], bytes]) -> Members:
    return [(info, change(content) if info.name == name else content) for info, content in members]


def of_manifest(**values: object) -> Callable[[Members], Members]:
    def change(content: bytes) -> bytes:
        return json.dumps(json.loads(content) | values).encode()

    return lambda members: changed(members, "manifest.json", change)


def of_records(sql: str) -> Callable[[Members], Members]:
    def change(content: bytes) -> bytes:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.deserialize(content)
        db.executescript(sql)
        raw: bytes = db.serialize()
        db.close()
        return raw

    return lambda members: changed(members, "state.db", change)


def without(prefix: str) -> Callable[[Members], Members]:
    return lambda members: [m for m in members if not m[0].name.startswith(prefix)]


@pytest.mark.parametrize(
    "change",
    [
        of_manifest(format=2), of_manifest(format=None), of_manifest(apps=["shop"]),
        of_manifest(apps=["idle", "shop", "../x"]), of_manifest(apps="idle"), of_manifest(apps=[1]),
        of_manifest(apps=["idle", "shop", "third"]), of_manifest(machine="vax"),
        of_manifest(padding="x" * (1 << 20)),
        lambda m: changed(m, "manifest.json", lambda _: b"[]"),
        lambda m: changed(m, "manifest.json", lambda _: b"{"),
        lambda m: changed(m, "manifest.json", lambda _: b"[" * 100_000),
        lambda m: changed(m, "state.db", lambda _: b"not a database" * 100),
        lambda m: changed(m, "state.db", lambda _: b""),
        of_records("CREATE TRIGGER t AFTER INSERT ON audit BEGIN DELETE FROM apps; END"),
        of_records("CREATE VIEW v AS SELECT 1"),
        of_records("UPDATE domains SET domain = 'a; } server {' WHERE app = 'shop'"),
        of_records("UPDATE ports SET port = 22 WHERE app = 'shop' AND slot = 1 AND use = 'http'"),
        of_records("UPDATE apps SET settings = '[]'"), of_records("UPDATE apps SET settings = '{'"),
        of_records("UPDATE apps SET settings = '{\"no.such\": \"1\"}'"),
        of_records("UPDATE keys SET blob = 'A' || char(10) || 'ssh-rsa AAAA'"),
        of_records("UPDATE apps SET live_release = 7 WHERE name = 'shop'"),
        of_records("UPDATE apps SET name = '../x' WHERE name = 'idle'"),
        of_records("DROP TABLE ports"), of_records("PRAGMA user_version = 99"),
        without("manifest.json"), without("state.db"), without("end.json"), without("apps"),
        without("apps/shop"), without(f"{V1[:-1]}2"), lambda m: m[:5], lambda m: m[::-1],
        lambda _: [], lambda m: [*m, m[-1]], lambda m: [m[0], *m],
    ],
)  # fmt: skip
def test_archives_whose_parts_do_not_fit(
    change: Callable[[Members], Members], new: Server, made: Path
) -> None:
    members = read(made)
    refused(new, write(made, change(members)), kind=GatlingError)


def test_an_archive_that_lacks_members(new: Server, made: Path) -> None:
    members = read(made)
    del members[-3]
    refused(new, write(made, members, count=len(members)), "more or less")


def test_files_that_are_no_archives(new: Server, made: Path) -> None:
    whole = made.read_bytes()
    tar = gzip.decompress(whole)
    renamed = tar.replace(b"end.json", b"End.json")
    for content in (b"", b"text", tar, whole[: len(whole) // 2], whole[:-9], whole + b"more",
                    whole[:-6] + b"\0\0" + whole[-4:], gzip.compress(b""), gzip.compress(renamed),
                    gzip.compress(b"x" * 600), gzip.compress(tar[: len(tar) // 2])):  # fmt: skip
        made.write_bytes(content)
        refused(new, made)
    refused(new, made.with_name("missing"), kind=GatlingError)
    refused(new, made.parent, kind=GatlingError)


def test_names_and_contents_that_never_end_are_not_read(new: Server, made: Path) -> None:
    """A kilobyte can stand for a gigabyte."""
    head = tarfile.TarInfo("x")
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        head.type, head.size = kind, 1 << 33
        made.write_bytes(gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
        refused(new, made, "too large")


def test_more_than_the_disk_takes(new: Server, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100_000}))
    refused(new, made, "needs more", kind=DiskFull)


PARTS = st.sampled_from(["apps", "shop", "idle", "state", "git", "objects", "refs", "releases",
                         "v1", "v2", "..", ".", "", "a", "a\nb", "\udcff", "\0", "logs", "end.json",
                         "deployment-2.log", "x" * 300])  # fmt: skip
KINDS = st.sampled_from([REG, REG, DIR, DIR, SYM, HARD, b"3", b"S", b"L", b"x"])
EXTRA = st.tuples(st.lists(PARTS, min_size=1, max_size=7), KINDS, st.lists(PARTS, max_size=5))


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("valid")
    subject.backup(root / "b.tar.gz", filled(root / "old").root)
    return root / "b.tar.gz"


EXAMPLES = settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))


@EXAMPLES
@given(extras=st.lists(EXTRA, min_size=1, max_size=3), data=st.data())
def test_whatever_is_let_through_lies_where_it_may(
    valid: Path, extras: list[Any], data: st.DataObject
) -> None:
    members = read(valid)
    for parts, kind, link in extras:
        at = data.draw(st.integers(0, len(members)))
        members.insert(at, member("/".join(parts), kind, "/".join(link)))
    archive = io.BytesIO()
    path = write(valid.with_name("fuzzed.tar.gz"), members)
    archive.write(path.read_bytes())
    check_members(archive)


@EXAMPLES
@given(data=st.data())
def test_damaged_bytes(valid: Path, data: st.DataObject) -> None:
    raw = bytearray(gzip.decompress(valid.read_bytes()))
    for _ in range(data.draw(st.integers(1, 4))):
        block = data.draw(st.integers(0, len(raw) // 512 - 1)) * 512
        raw[block + data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
    check_members(io.BytesIO(gzip.compress(bytes(raw), 1)))


def check_members(archive: io.BytesIO) -> None:
    seen: dict[tuple[str, ...], bytes] = {(): DIR}
    try:
        for info, parts, _ in subject.Archive(archive).members():
            assert parts not in seen
            assert seen[parts[:-1]] == DIR
            assert not {"", ".", ".."} & set(parts)
            assert parts[0] in subject.TOP
            assert parts[1:2] in ((), ("idle",), ("shop",))
            if info.issym():
                within = parts[2] == "state" or not leads_out(info.linkname, parts[4:-1])
                assert within
            if info.islnk():
                target = tuple(info.linkname.split("/"))
                assert seen[target] == REG
                assert target[:3] == parts[:3]
                assert parts[2] == "releases"
            seen[parts] = REG if info.islnk() else info.type
    except InvalidInput:
        pass


def test_a_host_with_apps_is_left_alone(old: Server, new: Server, made: Path) -> None:
    old.asked.clear()
    refused(old, made, "has apps: idle, shop")
    (new.root / "apps/stray").mkdir()
    refused(new, made, "do not know")


def test_a_port_that_is_taken(new: Server, made: Path, old: Server) -> None:
    db = old.database()
    port = apps.get(db, "shop").node_ports[2]
    db.close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
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
    with pytest.raises(kind, match="records are as they were"):
        new.restore(made)
    after_it = new.picture()
    let_in = str(new.root / "home/.ssh/authorized_keys")
    assert "ssh-command bob" in str(after_it.pop(let_in))
    after_it.pop(str(new.root / "home/.ssh"))
    assert after_it == before


def test_apps_that_cannot_be_started_are_there_nevertheless(new: Server, made: Path) -> None:
    def fail(*_: str) -> None:
        raise CommandFailed("gatling exited with status 8.")

    with pytest.raises(CommandFailed, match="All is in place"):
        list(subject.restore(made, new.root, new.ask, fail))
    assert (new.app("shop") / "releases/v2").is_dir()


def test_what_a_killed_restore_has_left_goes_first(new: Server, made: Path) -> None:
    new.ask("app", app="idle")
    (new.root / "apps/.restoring/made").mkdir(parents=True)
    (new.root / "apps/.restoring/made/idle").touch()
    (new.root / "apps/.restoring/apps").mkdir()
    new.restore(made)
    assert new.asked[1:] == [("forget", "idle"), ("app", "idle"), ("app", "shop")]


def test_only_a_host_of_gatlings_has_backups(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a Gatling host"):
        subject.backup(tmp_path / "b", tmp_path)
    with pytest.raises(InvalidInput, match="not a Gatling host"):
        list(subject.restore(tmp_path / "b", tmp_path))
