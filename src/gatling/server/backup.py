"""All apps of a server in one file, and back from it on another server. As root.

The file is a gzipped tar whose members stand in one order only: manifest.json, state.db,
authorized_keys, apps/ with each app's logs, git, releases and state, end.json. `_allowed` says what
may stand where, when it is written as when it is read; whatever else there is (hooks, git's
configuration, half made releases, sockets) is not in it, or refused.

What others than root may write is read, locked and written in their name, so that no link that
they put there leads further than they could go themselves.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import json
import os
import platform
import re
import shlex
import shutil
import socket
import sqlite3
import stat
import tarfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gatling import __version__, ports, process
from gatling.deploy import lock
from gatling.errors import DiskFull, GatlingError, Interrupted, InvalidInput, PortTaken
from gatling.helper import client, service
from gatling.home import SERVER, AppPaths, Home
from gatling.project import names
from gatling.project import settings as project_settings
from gatling.releases.untrusted import FULL, MAX_DEPTH, leads_out
from gatling.server import install, keys, loading
from gatling.state import apps, audit, database
from gatling.state import keys as state_keys
from gatling.supervisor import units
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.state.apps import App

FORMAT = 1
LARGEST = {"manifest.json": 1 << 20, "state.db": 1 << 30, "authorized_keys": 1 << 22,
           "end.json": 1 << 10}  # fmt: skip
MAX_NAME = 3800
"""Bytes of a member's name: PATH_MAX, less where it will lie."""
MAX_READ = 1 << 22
"""Bytes that tarfile may want at once, for a member's name, say."""
TOP = ("manifest.json", "state.db", "authorized_keys", "apps", "end.json")
ENTRIES = ("logs", "git", "releases", "state")
GIT = ("refs", "packed-refs", "shallow", "objects")
"""In this order, since objects that refs name are there before them."""
_LOG = re.compile(r"(deployment-[1-9][0-9]*|instances)\.log")
_OBJECT = re.compile(r"[0-9a-f]{2}(/[0-9a-f]{38,62})?"
                     r"|pack(/pack-[0-9a-f]{40,64}\.(pack|idx|rev|mtimes))?")  # fmt: skip
DIRECTORY, FILE, LINK, HARD = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
_FAULTS = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
"""What reading a member's content can raise."""
Parts = tuple[str, ...]


def backup(file: Path, server: Path = SERVER) -> str:
    """Write all apps into a file that is not there yet; what to tell.

    Raises InvalidInput, DiskFull or another GatlingError, and then there is no file.
    """
    _need(server, "backup")
    file = Path(os.path.abspath(file))  # noqa: PTH100 (links are kept as they are)
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        if os.path.lexists(file):
            raise FileExistsError
        opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(opened, "wb") as target:
                writer = _Writer(target, Home(server / "home"))
                writer.write()
                target.flush()
                os.fsync(opened)
            try:
                os.link(new, file)  # unlike a rename it replaces nothing
            except PermissionError:  # a file system without links
                new.rename(file)
        finally:
            new.unlink(missing_ok=True)
    except FileExistsError:
        raise InvalidInput(f"{file} exists already; nothing was written.") from None
    except OSError as error:
        raise _explained(error) from error
    told = [f"{file}: {len(writer.apps)} apps, {file.stat().st_size >> 10} KiB; all secrets, too."]
    told += [f"left out: {name!r}" for name in writer.left[:20]]
    return "\n".join([*told, *([f"left out: {len(writer.left)} in all"] * bool(writer.left[20:]))])


def restore(
    file: Path,
    server: Path = SERVER,
    ask: Callable[..., Any] = client.ask,
    start: Callable[..., None] = install.as_owner,
) -> Iterator[str]:
    """Bring the apps of a backup to this server, which has none; what to tell, bit by bit.

    Raises a GatlingError, and then everything is as it was, unless apps only cannot be started.
    """
    _need(server, "restore")
    os.umask(0o022)
    with contextlib.ExitStack() as stack:
        directory = os.open(server / "apps", os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, directory)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput("Another restore is under way.") from None
        staging = server / "apps" / ".restoring"  # root's alone, until all is in place
        _must_be_empty(server, staging, ask)
        (staging / "made").mkdir(mode=0o700, parents=True)
        staging.chmod(0o700)
        stack.callback(shutil.rmtree, staging, ignore_errors=True)
        try:
            archive = Archive(stack.enter_context(file.open("rb")))
            every = _checked(archive, staging)
            yield f"{file}: {len(every)} apps, backed up on {archive.manifest.get('host')!r}"
            _unpack(archive, staging, every)
        except _FAULTS as error:
            raise _damaged(error) from None
        except OSError as error:
            raise _explained(error) from error
        _put_in_place(server, staging, every, ask)
    yield "Apps, records and SSH keys are in place; keys that this host had before are not."
    try:
        start("recover", "--units")
    except GatlingError as error:
        hint = "`gatling server check`, then `systemctl restart gatling-recover.service`."
        what = f"All is in place, but could not be started: {error.what}"
        raise type(error)(what, hint=hint, log=error.log) from error
    for app in every:
        yield f"{app.name}: {_state(app)}"


@contextlib.contextmanager
def acting_as(info: os.stat_result) -> Iterator[None]:
    """In the name of a file's owner, with his rights only, if this is root."""
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


class _Writer:
    """Writes an archive."""

    def __init__(self, target: IO[bytes], home: Home) -> None:
        self._home, self._target, self._members = home, target, 0
        self._links: dict[tuple[int, int], str] = {}
        self.apps: list[str] = []
        self.left: list[str] = []
        """What somebody may miss."""

    def write(self) -> None:
        """All of it; no deployment of an app begins before the app has been copied."""
        owner, held = self._home.root.stat(), dict[str, contextlib.ExitStack]()
        tar = tarfile.open(  # noqa: SIM115 (it is closed, below)
            fileobj=self._target, mode="w:gz", compresslevel=6, format=tarfile.PAX_FORMAT,
            encoding="utf-8", errors="surrogateescape",
        )  # fmt: skip
        with tar as self._tar, contextlib.ExitStack() as stack:
            with acting_as(owner):
                for name in _apps(self._home):
                    held[name] = stack.enter_context(contextlib.ExitStack())
                    held[name].enter_context(self._lock(name))
                records, self.apps = _snapshot(self._home.database), _apps(self._home)
                keys_file = keys.authorized_keys_path(self._home)
                let_in = keys_file.read_bytes() if keys_file.exists() else b""
            if self.apps != list(held):
                raise GatlingError("An app was made or removed meanwhile.", hint="Try again.")
            manifest = {
                "format": FORMAT,
                "gatling": __version__,
                "host": socket.gethostname(),
                "machine": platform.machine(),
                "made": database.now(),
                "apps": self.apps,
            }
            self._text("manifest.json", json.dumps(manifest).encode())
            self._text("state.db", records)
            self._text("authorized_keys", let_in)
            self._add(_info(("apps",), DIRECTORY))
            for name in self.apps:
                self._add(_info(("apps", name), DIRECTORY))
                self._links.clear()
                for entry in ENTRIES:
                    with acting_as((self._root(name) / entry).lstat()):
                        self._directory(str(self._root(name) / entry), None, ("apps", name, entry))
                held[name].close()
            self._text("end.json", json.dumps({"members": self._members}).encode())

    def _lock(self, app: str) -> contextlib.AbstractContextManager[None]:
        waiting = f"{app}: waiting for the deployment under way"
        return lock.hold(self._root(app) / "lock", lambda: Progress().say(waiting))

    def _root(self, app: str) -> Path:
        return AppPaths(self._home.root, app, server=True).root

    def _directory(self, path: str, within: int | None, where: Parts) -> None:
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
        try:
            self._add(_info(where, DIRECTORY, os.fstat(opened)))
            known = os.listdir(opened)  # noqa: PTH208 (of an open directory)
            if where[2:] == ("git",):
                known = [name for name in known if name in GIT]
            for name in sorted(known, key=lambda name: _place((*where, name))):
                self._entry(name, opened, (*where, name))
        finally:
            os.close(opened)

    def _entry(self, name: str, within: int, parts: Parts) -> None:
        kinds = {stat.S_IFDIR: DIRECTORY, stat.S_IFREG: FILE, stat.S_IFLNK: LINK}
        try:
            found = os.stat(name, dir_fd=within, follow_symlinks=False)
            kind = kinds.get(stat.S_IFMT(found.st_mode), tarfile.FIFOTYPE)
            info = _info(parts, kind, found)
            if kind == LINK:
                info.linkname = os.readlink(name, dir_fd=within)
            if not _allowed(info, parts):
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
            info = _info(parts, FILE, found)
            if parts[2] == "releases" and found.st_nlink > 1:
                first = self._links.setdefault((found.st_dev, found.st_ino), info.name)
                if first != info.name:
                    info.type, info.linkname, info.size = HARD, first, 0
            self._add(info, _Exactly(file))

    def _text(self, name: str, content: bytes) -> None:
        info = _info((name,), FILE)
        info.size = len(content)
        if not _allowed(info, (name,)):
            raise GatlingError(f"{name} is too large for a backup.")
        self._add(info, io.BytesIO(content))

    def _add(self, info: tarfile.TarInfo, content: Any = None) -> None:
        self._tar.addfile(info, content if info.size else None)
        self._tar.members = []  # type: ignore[attr-defined]  # it would keep them all
        self._members += 1


class _Exactly:
    """A file of the size that it had when it was opened, with zeros for what was cut off since."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """As many bytes."""
        return self._file.read(size).ljust(size, b"\0")


class _Stream(gzip.GzipFile):
    """What tarfile reads from: forwards only, and no more at once than it has reason to."""

    def read(self, size: int | None = -1) -> bytes:
        """See GzipFile."""
        if size is None or not 0 <= size <= MAX_READ:
            raise tarfile.ReadError("a part that is too large")
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See GzipFile."""
        at = super().seek(0, io.SEEK_CUR)
        if (whence, offset) == (io.SEEK_CUR, 0):  # what `tell` asks
            return at
        if whence != io.SEEK_SET or offset < at:
            raise tarfile.ReadError("parts that lie in each other")
        return super().seek(offset)


class Archive:
    """Reads an archive that anybody may have made."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.manifest: dict[str, Any] = {}
        self._last: Parts = ()
        self._above: list[Parts] = []
        """The directories that a member may be in: the last one and those above it."""
        self._files: set[str] = set()
        """What a hard link may be to."""
        self._count = 0

    def members(self) -> Iterator[tuple[tarfile.TarInfo, Parts, IO[bytes] | None]]:
        """Its members with their parts and contents, each of them allowed where it is.

        A directory comes before what is in it, nothing comes twice, and a hard link after the file
        of the same app that it is. Raises InvalidInput, at the end, too, when that is missing.
        """
        self._file.seek(0)
        self._last, self._above, self._files, self._count = (), [()], set(), 0
        try:
            with (
                _Stream(fileobj=self._file, mode="rb") as stream,
                tarfile.open(
                    fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape"
                ) as tar,
            ):
                while (info := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    parts = tuple(info.name.split("/"))
                    self._check(info, parts)
                    content = tar.extractfile(info) if info.type == FILE else None
                    if parts == ("manifest.json",):
                        self.manifest = _manifest(content)
                    if parts == ("end.json",) and _json(content) != {"members": self._count}:
                        raise InvalidInput("The backup has members more or less than it had.")
                    yield info, parts, content
                    self._last, self._count = parts, self._count + 1
                while stream.read(1 << 16):  # to its checksum
                    pass
        except (GatlingError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001 (tarfile raises what it likes)
            raise _damaged(error) from None
        if self._last != ("end.json",):
            raise InvalidInput("The backup is cut off.")

    def _check(self, info: tarfile.TarInfo, parts: Parts) -> None:
        while self._above[-1] != parts[: len(self._above[-1])]:
            self._above.pop()
        if not _allowed(info, parts) or self._above[-1] != parts[:-1]:
            raise InvalidInput(f"The backup has what does not belong there: {info.name!r}")
        if parts != TOP[:1] if not self._last else _place(self._last) >= _place(parts):
            raise InvalidInput(f"The backup is out of order at {info.name!r}.")
        if len(parts) == 2:
            self._files.clear()
            if parts[1] not in self.manifest["apps"]:
                raise InvalidInput(f"The backup has an app more: {parts[1]!r}")
        if info.type == HARD and info.linkname not in self._files:
            raise InvalidInput(f"{info.name!r} is a link to what is not there.")
        if info.type == FILE and parts[2:3] == ("releases",):
            self._files.add(info.name)
        if info.type == DIRECTORY:
            self._above.append(parts)


def _allowed(info: tarfile.TarInfo, parts: Parts) -> bool:
    """Whether a member may be what it is where it is; what lies above it is not looked at."""
    if not _sane(info, parts):
        return False
    match parts:
        case ["apps"] | ["apps", _]:
            return info.type == DIRECTORY
        case ["apps", _, entry]:
            return info.type == DIRECTORY and entry in ENTRIES
        case ["apps", _, entry, *_]:
            return entry in ENTRIES and _BELOW[entry](info, parts[3:])
        case _:
            return info.type == FILE and info.size <= LARGEST.get(info.name, -1)


def _sane(info: tarfile.TarInfo, parts: Parts) -> bool:
    """Whether a file system can have it, and its app's name is one."""
    try:
        sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
        link = len(info.linkname.encode("utf-8", "surrogateescape"))
        names.app_name(parts[1] if len(parts) > 1 else "app")
    except (UnicodeEncodeError, InvalidInput):
        return False
    return (
        all(0 < size < 256 for size in sizes)
        and sum(sizes) + len(sizes) <= MAX_NAME
        and len(parts) <= MAX_DEPTH + 4
        and not {".", ".."} & set(parts)
        and "\0" not in info.name + info.linkname
        and not info.issparse()
        and info.size >= 0
        and 0 <= info.mtime < 1 << 33
        and (info.type != LINK or 0 < link < 4096)
    )


def _in_logs(info: tarfile.TarInfo, parts: Parts) -> bool:
    return info.type == FILE and len(parts) == 1 and bool(_LOG.fullmatch(parts[0]))


def _in_git(info: tarfile.TarInfo, parts: Parts) -> bool:
    entry, *below = parts
    if entry in ("packed-refs", "shallow"):
        return info.type == FILE and not below
    if entry == "objects" and below:  # alternates, which are others' objects, are not among them
        known = _OBJECT.fullmatch("/".join(below))
        return bool(known) and info.type == (DIRECTORY if len(below) == 1 else FILE)
    if entry == "refs" and below and info.type == FILE:
        return info.size <= 4096 and not parts[-1].endswith(".lock")
    return info.type == DIRECTORY and entry in ("objects", "refs")


def _in_releases(info: tarfile.TarInfo, parts: Parts) -> bool:
    label, *below = parts
    if not re.fullmatch(r"v[1-9][0-9]{0,8}", label):
        return False
    if info.type == LINK:
        return bool(below) and not leads_out(info.linkname, tuple(below[:-1]))
    return info.type == DIRECTORY or (bool(below) and info.type in (FILE, HARD))


def _in_state(info: tarfile.TarInfo, _: Parts) -> bool:
    # its links lead no further than the app's user can go himself
    return info.type in (DIRECTORY, FILE, LINK)


_BELOW = {"logs": _in_logs, "git": _in_git, "releases": _in_releases, "state": _in_state}


def _place(parts: Parts) -> tuple[Any, ...]:
    """Where in the order a member comes."""
    place: tuple[Any, ...] = (TOP.index(parts[0]), *parts[1:2])
    if len(parts) > 2:
        below: tuple[Any, ...] = parts[3:]
        if parts[2] == "git" and below:
            below = (GIT.index(parts[3]), *parts[4:])
        place += (ENTRIES.index(parts[2]), *below)
    return place


def _info(parts: Parts, kind: bytes, found: os.stat_result | None = None) -> tarfile.TarInfo:
    info = tarfile.TarInfo("/".join(parts))
    info.type, info.mode = kind, 0o755 if kind == DIRECTORY else 0o600
    if found is not None:
        info.mode = stat.S_IMODE(found.st_mode) & 0o777
        info.mtime = min(max(int(found.st_mtime), 0), (1 << 33) - 1)
        info.size = found.st_size if kind == FILE else 0
    return info


def _json(content: IO[bytes] | None) -> Any:
    return json.load(content) if content is not None else None


def _manifest(content: IO[bytes] | None) -> dict[str, Any]:
    found = _json(content)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InvalidInput("This backup was made by another version of Gatling.")
    listed = found.get("apps")
    if not isinstance(listed, list) or [names.app_name(str(a)) for a in listed] != listed:
        raise InvalidInput("The backup does not say which apps it has.")
    if found.get("machine") != platform.machine():
        raise InvalidInput(
            f"The backup is of a host of another kind: {found.get('machine')!r}, and this is"
            f" {platform.machine()}. Its releases cannot run here.",
            hint="Make the apps here with `gatling load` and push them.",
        )
    return found


def _checked(archive: Archive, staging: Path) -> list[App]:
    """The apps of an archive which is whole, and can be brought to this host."""
    free, needed = shutil.disk_usage(staging).free, 0
    trees = set()
    for info, parts, content in archive.members():
        needed += 0 if info.type == HARD else info.size + 4096
        if needed > free:
            raise DiskFull(f"The backup needs more than the {free >> 20} MiB that are free.")
        if parts == ("state.db",) and content is not None:
            with (staging / "state.db").open("wb") as target:
                shutil.copyfileobj(content, target)
        if parts[2:3] == ("releases",) and len(parts) == 4:
            trees.add((parts[1], parts[3]))
    try:
        with contextlib.closing(database.open_database(staging / "state.db")) as db:
            kinds = {row["type"] for row in db.rows("SELECT type FROM sqlite_master")}
            if db.value("PRAGMA quick_check") != "ok" or kinds != {"table", "index"}:
                raise InvalidInput("The backup's records are damaged.")
            every = apps.every(db)
            keys.authorized_keys(state_keys.every(db), "command")
        for app in every:
            _check_app(app)
    except (sqlite3.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(f"The backup's records cannot be used: {error!r}") from None
    if [app.name for app in every] != archive.manifest["apps"]:
        raise InvalidInput("The backup's records are of other apps than it has.")
    for app in every:
        if app.live_release is not None and (app.name, f"v{app.live_release}") not in trees:
            raise InvalidInput(f"The backup lacks the live release of {app.name}.")
        for port in (*app.ports.values(), *app.node_ports.values()):
            if not ports.is_free(port):
                raise PortTaken(f"Port {port}, which is {app.name}'s, is taken by"
                                f" {ports.owner(port)}; nothing was changed.")  # fmt: skip
    return every


def _check_app(app: App) -> None:
    project_settings.parse(app.effective)
    taken = [*app.ports.values(), *app.node_ports.values()]
    if len(taken) != 4 or not all(1024 <= port <= 65535 for port in taken):
        raise InvalidInput(f"The backup's ports of {app.name} cannot be used.")
    if not app.domains or [names.domain(d) for d in app.domains] != list(app.domains):
        raise InvalidInput(f"The backup's domains of {app.name} cannot be used.")


def _unpack(archive: Archive, staging: Path, every: list[App]) -> None:
    for app in every:  # with hook and configuration of this Gatling's
        loading._make_repository(AppPaths(staging / "home", app.name, server=True))
    for info, parts, content in archive.members():
        target = staging.joinpath(*parts)
        if parts[0] != "apps":
            continue
        if info.type == DIRECTORY:
            target.mkdir(exist_ok=True)
            target.chmod(info.mode & 0o777)
        elif info.type == LINK:
            target.symlink_to(info.linkname)
        elif info.type == HARD:
            target.hardlink_to(staging / info.linkname)
        elif content is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
                os.fchmod(file.fileno(), info.mode & 0o777)
            os.utime(target, (info.mtime, info.mtime))


def _put_in_place(server: Path, staging: Path, every: list[App], ask: Callable[..., Any]) -> None:
    home = Home(server / "home")
    owner, records, replaced = home.root.stat(), _snapshot(staging / "state.db"), False
    with acting_as(owner):
        database.open_database(home.database).close()
        before = _snapshot(home.database)
    made = []
    try:
        for app in every:
            made.append(app.name)
            (staging / "made" / app.name).touch()
            ask("app", app=app.name, limits={}, stop=30.0)
            _move(staging / "apps" / app.name, server / "apps" / app.name, owner)
        with acting_as(owner):
            if _apps(home):
                raise GatlingError("An app was made meanwhile.")
            replaced = True
            _replace(home, records)
            with contextlib.closing(database.open_database(home.database)) as db:
                audit.record(db, "root", None, "server restore", " ".join(made))
    except BaseException as error:
        if replaced:
            with acting_as(owner):
                _replace(home, before)
        for name in made:
            with contextlib.suppress(GatlingError):
                ask("forget", app=name)
        raise _undone(error) from error


def _move(source: Path, target: Path, owner: os.stat_result) -> None:
    """Bring an app's directories to those that the helper has made; in `source` is root alone."""
    modes = {name: mode for name, _, mode in service.LAYOUT}
    (source / "lock").touch()
    user = (target / "state").lstat()
    for entry in source.iterdir():
        whose = user if entry.name == "state" else owner
        entry.chmod(modes.get(entry.name, 0o600))
        os.lchown(entry, whose.st_uid, whose.st_gid)
        for directory, directories, files in os.walk(entry):
            for name in (*directories, *files):
                os.lchown(f"{directory}/{name}", whose.st_uid, whose.st_gid)
        entry.rename(target / entry.name)  # an empty directory is replaced, a link not followed


def _replace(home: Home, records: bytes) -> None:
    """Put other records in place, in a transaction; and the keys that they know."""
    with contextlib.closing(sqlite3.connect(":memory:")) as source:
        source.deserialize(records)
        with contextlib.closing(sqlite3.connect(home.database, timeout=30)) as target:
            source.backup(target)
    with contextlib.closing(database.open_database(home.database)) as db:
        command = f"{shlex.quote(str(home.command))} ssh-command"
        text = keys.authorized_keys(state_keys.every(db), command)
    keys.write(keys.authorized_keys_path(home), text)


def _snapshot(path: Path) -> bytes:
    """The state file as it is at one moment; as one without a journal, for `deserialize`."""
    with _reading(path) as source, contextlib.closing(sqlite3.connect(":memory:")) as copy:
        source.backup(copy)
        content = bytearray(copy.serialize())
    content[18:20] = b"\1\1"  # sqlite.org/fileformat2.html: not WAL
    return bytes(content)


def _apps(home: Home) -> list[str]:
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


def _need(server: Path, what: str) -> None:
    if os.geteuid() != 0 and server == SERVER:
        raise InvalidInput("This needs root.", hint=f"`sudo gatling server {what} FILE`")
    if not (server / "home").is_dir() or not (server / "apps").is_dir():
        raise InvalidInput("This is not a Gatling host.", hint="`gatling server install`")


def _must_be_empty(server: Path, staging: Path, ask: Callable[..., Any]) -> None:
    with acting_as((server / "home").stat()):
        found = _apps(Home(server / "home"))
    if found:
        raise InvalidInput(f"This host has apps: {', '.join(found)}; nothing was changed.",
                           hint="A backup is restored on a host without apps.")  # fmt: skip
    for left in (staging / "made").glob("*"):  # by a restore that was killed
        ask("forget", app=names.app_name(left.name))
    shutil.rmtree(staging, ignore_errors=True)
    for entry in (server / "apps").iterdir():
        if not entry.name.startswith("."):
            raise InvalidInput(f"The records do not know the app of {entry}.",
                               hint="Move it away.")  # fmt: skip


def _state(app: App) -> str:
    if app.live_release is None or app.wanted == "stopped":
        return "not running, as before"
    unit = units.instance(app.name, app.live_slot or 1)
    with contextlib.suppress(GatlingError):
        if process.run(["systemctl", "is-active", unit], timeout=30, check=False).status == 0:
            return "started"
    return f"not started; `gatling logs {app.name}` may say why"


def _explained(error: OSError) -> GatlingError:
    if error.errno in FULL:
        return DiskFull("The disk is full; nothing was written.")
    return GatlingError(f"{error.filename or 'Backup'}: {error.strerror}; nothing was changed.")


def _damaged(error: Exception) -> InvalidInput:
    return InvalidInput(f"This is not a backup, or a damaged one: {error!r}")


def _undone(error: BaseException) -> BaseException:
    kept = "What this had made was removed, and the records are as they were."
    if isinstance(error, GatlingError):
        return type(error)(f"{error.what} {kept}", hint=error.hint, log=error.log)
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(f"Called off. {kept}")
    if isinstance(error, OSError):
        found = _explained(error)
        return type(found)(f"{found.what} {kept}", hint=found.hint)
    if isinstance(error, sqlite3.Error):
        return GatlingError(f"The records cannot be written: {error}. {kept}")
    return error
