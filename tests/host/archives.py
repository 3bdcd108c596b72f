"""A directory that stands for a server's, and archives of good and bad people."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import GatlingError, HelperFailed, InvalidInput
from gatling.host import restore
from gatling.platform.server.helper.apps import LAYOUT
from gatling.state import apps, config, issuance, keys, releases
from gatling.state.database import open_database

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.state.database import Database

Members = list[tuple[tarfile.TarInfo, bytes]]
BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIODUsybq3cZr3fbKy2t/WtzvOvzOHgNhXrgKCg3nfp8n"
ODD = b"\xff\xfe"
V1 = "apps/shop/releases/v1"
REG, SYM, HARD, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


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

    def ask(self, verb: str, *, app: str = "", **_: Any) -> None:
        self.asked.append((verb, app))
        if verb == "certificate-obtain" or verb.startswith("database-"):
            return
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
        return "\n".join(restore.restore(file, self.root, self.ask, self.start))

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
                            1, "2026-01-01T00:00:00.000Z", None, {})  # fmt: skip


def create(db: Database, name: str) -> apps.App:
    """Record an app with four ports that no other program is given while the tests run."""
    app = apps.create(db, name, lambda port: port % 3 > 0)
    for drawn, held in zip(app.every_port, _held(name), strict=True):
        db.execute("UPDATE ports SET port = ? WHERE port = ?", held.getsockname()[1], drawn)
    return apps.get(db, name)


@functools.cache
def _held(name: str) -> tuple[socket.socket, ...]:
    """Sockets on ports of the kernel's choice, which this process has until its end."""
    found = tuple(socket.socket() for _ in range(4))
    for each in found:
        each.bind(("0.0.0.0", 0))  # noqa: S104 (it never listens)
        # only now: nobody is given the port by chance, and who asks for it itself finds it free
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return found


def listening(port: int) -> socket.socket:
    """A stranger on a port of an app."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", port))
    taken.listen()
    return taken


def filled(root: Path) -> Server:
    """A server with a deployed app, and one that is empty."""
    server = Server(root)
    db = server.database()
    for name in ("shop", "idle"):
        create(db, name)
        server.ask("app", app=name)
        (server.app(name) / "lock").touch()
    config.replace(db, "shop", {"SECRET": "s3cret"})
    for number in (1, 2):
        releases.add(db, release(number))
    apps.make_live(db, "shop", release=2, slot=1, config=None)
    issuance.put(db, issuance.Issuance(app="shop", certificate="0f", renew_at=9e9, retry_at=9e9))
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
    (shop / "logs/job-night_ly-2.log").write_text("sent\n")
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


def refused(
    new: Server, file: Path, match: str | None = None, kind: type[GatlingError] = InvalidInput
) -> None:
    before = new.picture()
    with pytest.raises(kind, match=match):
        new.restore(file)
    assert new.picture() == before
    assert not new.asked
    assert not new.started
