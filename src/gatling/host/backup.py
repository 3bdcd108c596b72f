"""All apps of a server in one file (see `archive`), for `restore` on another server. As root.

Files that other users may write are read, locked and written under these users, so that no link of
theirs leads further than they could go themselves.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import socket
import sqlite3
import stat
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gatling import __version__, files, times
from gatling.cleanup import finally_
from gatling.errors import DiskFull, GatlingError, InvalidInput, is_full
from gatling.host import databases as moving
from gatling.host.archive import (
    DIRECTORY,
    ENTRIES,
    FILE,
    FORMAT,
    GIT,
    HARD,
    LINK,
    Exactly,
    allowed,
    member,
    place,
)
from gatling.operations import keys
from gatling.paths import SERVER
from gatling.platform import lock
from gatling.platform.server.home import ServerHome, ServerPaths
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.host.archive import Parts


PATIENCE_SECONDS = 3600
"""How long a moment is waited for in which no app is being deployed."""
WAIT_SECONDS = 0.5
LARGEST_HOLE = 64 << 20
"""Bytes of a file that are on no disk, and would be read and written as zeros."""
CHECKED = 64 << 20
"""Bytes of a file that are read before the disk is looked at again."""


def backup(
    file: Path,
    server: Path = SERVER,
    *,
    databases: bool = True,
    dump: Callable[..., str] = moving.dump,
) -> str:
    """Write all apps into a file that must not exist yet; return a message for the user.

    Their databases are in it, each as a dump that was restored and compared, unless `databases` is
    false. Raises InvalidInput, DiskFull or another GatlingError, and then there is no file.
    """
    need(server, "backup")
    file = Path(os.path.abspath(file))  # noqa: PTH100 (links are kept as they are)
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        if os.path.lexists(file):
            raise FileExistsError
        opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with finally_(lambda: new.unlink(missing_ok=True)):
            with os.fdopen(opened, "wb") as target:
                writer = _Writer(
                    target, ServerHome(server / "home"), file.parent, dump if databases else None
                )
                writer.write()
                target.flush()
                os.fsync(opened)
            try:
                os.link(new, file)  # unlike a rename it replaces nothing
            except PermissionError:  # a file system without links
                new.rename(file)
    except FileExistsError:
        raise InvalidInput(f"{file} exists already; nothing was written.") from None
    except OSError as error:
        raise explained(error) from error
    told = [f"{file}: {len(writer.apps)} apps, {file.stat().st_size >> 10} KiB, with all secrets."]
    told += writer.told
    told += [f"left out: {name!r}" for name in writer.left[:20]]
    return "\n".join([*told, *([f"left out: {len(writer.left)} in all"] * bool(writer.left[20:]))])


@contextlib.contextmanager
def acting_as(info: os.stat_result) -> Iterator[None]:
    """Act as the owner of a file, with only the owner's rights, if this process is root."""
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([info.st_gid])
    os.setegid(info.st_gid)
    os.seteuid(info.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


class _Checked(Exactly):
    """A file whose copying stops before the disk that it is copied to is full."""

    def __init__(self, file: IO[bytes], target: int) -> None:
        super().__init__(file)
        self._target, self._read = target, CHECKED

    def read(self, size: int) -> bytes:
        """See Exactly."""
        self._read += size
        if self._read >= CHECKED:
            self._read = 0
            files.need_space(Path(f"/proc/self/fd/{self._target}"), "The backup")
        return super().read(size)


class _Writer:
    """Writes an archive."""

    def __init__(
        self, target: IO[bytes], home: ServerHome, place: Path, dump: Callable[..., str] | None
    ) -> None:
        self._home, self._target, self._members = home, target, 0
        self._place, self._dump = place, dump
        self._dumps: dict[str, IO[bytes]] = {}
        """The dumps of databases, which are in the archive after all apps."""
        self.told: list[str] = []
        """Notes on databases."""
        self._links: dict[tuple[int, int], str] = {}
        self.apps: list[str] = []
        self.left: list[str] = []
        """Notes on content that is left out and that somebody may miss."""

    def write(self) -> None:
        """All of it; no deployment of an app begins before the app has been copied."""
        owner = self._home.root.stat()
        tar = tarfile.open(  # noqa: SIM115 (it is closed, below)
            fileobj=self._target, mode="w:gz", compresslevel=6, format=tarfile.PAX_FORMAT,
            encoding="utf-8", errors="surrogateescape",
        )  # fmt: skip
        with tar as self._tar, contextlib.ExitStack() as stack:
            with acting_as(owner):
                held = self._hold(stack)
                records, self.apps = snapshot(self._home.database), app_names(self._home)
                keys_file = keys.authorized_keys_path(self._home)
                let_in = keys_file.read_bytes() if keys_file.exists() else b""
            if self.apps != list(held):
                raise GatlingError(
                    "An app was created or removed during the backup.", hint="Try again."
                )
            found = moving.recorded(records)
            databases = found.ready if self._dump else []
            missing = [
                *found.others,
                *([] if self._dump else [o.cluster.database for o in found.ready]),
            ]
            self.told += [f"left out: the database {name}" for name in sorted(missing)]
            manifest = {
                "format": FORMAT,
                "gatling": __version__,
                "host": socket.gethostname(),
                "machine": platform.machine(),
                "made": times.now(),
                "apps": self.apps,
                "databases": [one.cluster.database for one in databases],
            }
            self._text("manifest.json", json.dumps(manifest).encode())
            self._text("state.db", records)
            self._text("authorized_keys", let_in)
            self._add(member(("apps",), DIRECTORY))
            for name in ("", *self.apps):  # first those that no app uses
                for one in databases:
                    if one.cluster.database not in self._dumps and (
                        not one.apps or name in one.apps
                    ):
                        self._copy_database(one, stack)
                if not name:
                    continue
                self._add(member(("apps", name), DIRECTORY))
                self._links.clear()
                for entry in ENTRIES:
                    with acting_as((self._root(name) / entry).lstat()):
                        self._directory(str(self._root(name) / entry), None, ("apps", name, entry))
                held[name].close()
            self._add(member(("databases",), DIRECTORY))
            for name, file in sorted(self._dumps.items()):
                info = member(("databases", name), FILE)
                info.size = file.seek(0, os.SEEK_END)
                file.seek(0)
                self._add(info, _Checked(file, self._target.fileno()))
            self._text("end.json", json.dumps({"members": self._members}).encode())

    def _copy_database(self, used: moving.Used, stack: contextlib.ExitStack) -> None:
        """Dump a database into a file without a name, beside the archive."""
        assert self._dump is not None  # noqa: S101 (for the type checker)
        file = stack.enter_context(tempfile.TemporaryFile(dir=self._place))  # noqa: SIM115
        self.told.append(self._dump(used, file, Progress().say))
        self._dumps[used.cluster.database] = file

    def _hold(self, stack: contextlib.ExitStack) -> dict[str, contextlib.ExitStack]:
        """The locks of all apps at one moment; none is held while another is waited for.

        So one long build keeps the backup waiting, and no other app's deployments.
        """
        deadline, told = time.monotonic() + PATIENCE_SECONDS, False
        while True:
            late = time.monotonic() >= deadline
            held, busy = dict[str, contextlib.ExitStack](), ""
            for name in app_names(self._home):
                held[name] = contextlib.ExitStack()
                if not held[name].enter_context(lock.try_hold(self._paths(name).lock)):
                    busy = name
                    break
            if not busy:
                for one in held.values():
                    stack.enter_context(one)
                return held
            for one in held.values():
                one.close()
            if late:
                raise GatlingError(
                    f"Deployments were in progress for {PATIENCE_SECONDS // 60} minutes, most"
                    f" recently of {busy}. No backup was written.",
                    hint="Try again when no deployment is running.",
                )
            if not told:
                Progress().say(f"{busy}: waiting for the deployment in progress")
                told = True
            time.sleep(WAIT_SECONDS)

    def _root(self, app: str) -> Path:
        return self._paths(app).root

    def _paths(self, app: str) -> ServerPaths:
        return ServerPaths(self._home.root, app)

    def _directory(self, path: str, within: int | None, where: Parts) -> None:
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
        try:
            self._add(member(where, DIRECTORY, os.fstat(opened)))
            known = os.listdir(opened)  # noqa: PTH208 (of an open directory)
            if where[2:] == ("git",):
                known = [name for name in known if name in GIT]
            for name in sorted(known, key=lambda name: place((*where, name))):
                self._entry(name, opened, (*where, name))
        finally:
            os.close(opened)

    def _entry(self, name: str, within: int, parts: Parts) -> None:
        kinds = {stat.S_IFDIR: DIRECTORY, stat.S_IFREG: FILE, stat.S_IFLNK: LINK}
        try:
            found = os.stat(name, dir_fd=within, follow_symlinks=False)
            kind = kinds.get(stat.S_IFMT(found.st_mode), tarfile.FIFOTYPE)
            info = member(parts, kind, found)
            if kind == LINK:
                info.linkname = os.readlink(name, dir_fd=within)
            if not allowed(info, parts):
                if parts[2] == "state" or (parts[2] == "releases" and len(parts) > 4):
                    self.left.append(info.name)
            elif kind == DIRECTORY:
                self._directory(name, within, parts)
            elif kind == FILE:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                self._file(os.open(name, flags, dir_fd=within), parts)
            else:
                self._add(info)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            if parts[2] != "state":
                raise GatlingError(
                    f"{'/'.join(parts)!r}: {error.strerror}.", hint="Try again."
                ) from None
            if not isinstance(error, FileNotFoundError):  # which the app has removed just now
                self.left.append("/".join(parts))

    def _file(self, opened: int, parts: Parts) -> None:
        with os.fdopen(opened, "rb") as file:
            found = os.fstat(opened)
            if not stat.S_ISREG(found.st_mode):
                raise NotADirectoryError(None, "was changed while it was read")
            info = member(parts, FILE, found)
            if found.st_size - found.st_blocks * 512 > LARGEST_HOLE:
                self.left.append(f"{info.name} (sparse, {found.st_size >> 20} MB)")
                return
            if parts[2] == "releases" and found.st_nlink > 1:
                first = self._links.setdefault((found.st_dev, found.st_ino), info.name)
                if first != info.name:
                    info.type, info.linkname, info.size = HARD, first, 0
            self._add(info, _Checked(file, self._target.fileno()))

    def _text(self, name: str, content: bytes) -> None:
        info = member((name,), FILE)
        info.size = len(content)
        if not allowed(info, (name,)):
            raise GatlingError(f"{name} is too large for a backup.")
        self._add(info, io.BytesIO(content))

    def _add(self, info: tarfile.TarInfo, content: Any = None) -> None:
        self._tar.addfile(info, content if info.size else None)
        self._tar.members = []  # type: ignore[attr-defined]  # it would keep them all
        self._members += 1


def snapshot(path: Path) -> bytes:
    """The state file as it is at one moment; as one without a journal, for `deserialize`."""
    with _reading(path) as source, contextlib.closing(sqlite3.connect(":memory:")) as copy:
        source.backup(copy)
        content = bytearray(copy.serialize())
    content[18:20] = b"\1\1"  # sqlite.org/fileformat2.html: not WAL
    return bytes(content)


def app_names(home: ServerHome) -> list[str]:
    """The apps that a home's records know; none where there are no records."""
    if not home.database.exists():
        return []
    with _reading(home.database) as db:
        return [row[0] for row in db.execute("SELECT name FROM apps ORDER BY name")]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)
        with contextlib.closing(db):
            yield db
    except sqlite3.Error as error:
        raise GatlingError(f"The records cannot be read: {error}.") from None


def need(server: Path, what: str) -> None:
    """Raise InvalidInput unless this is root, on a server."""
    if os.geteuid() != 0 and server == SERVER:
        raise InvalidInput("This needs root.", hint=f"`sudo gatling server {what} FILE`")
    if not (server / "home").is_dir() or not (server / "apps").is_dir():
        raise InvalidInput("This is not a Gatling host.", hint="`gatling server install`")


def explained(error: OSError) -> GatlingError:
    """Return the error for a file that cannot be read or written."""
    if is_full(error):
        return DiskFull("The disk is full; nothing was written.")
    return GatlingError(f"{error.filename or 'Backup'}: {error.strerror}; nothing was changed.")
