"""The file that a backup is: what may stand where in it, and reading one that anybody made.

It is a gzipped tar whose members stand in one order only: manifest.json, state.db, authorized_keys,
apps/ with each app's logs, git, releases and state, databases/ with a dump of each, end.json.
`allowed` says what may stand where,
when it is written as when it is read; whatever else there is (hooks, git's configuration, half made
releases, sockets) is not in it, or refused.
"""

from __future__ import annotations

import gzip
import io
import json
import platform
import re
import stat
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any

from gatling import names
from gatling.errors import GatlingError, InvalidInput
from gatling.releases.safe_copy import MAX_DEPTH, leads_out

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

FORMAT = 2
READABLE = (1, FORMAT)
"""1 is the format without databases."""
LARGEST = {"manifest.json": 1 << 20, "state.db": 1 << 30, "authorized_keys": 1 << 22,
           "end.json": 1 << 10}  # fmt: skip
MAX_NAME = 3800
"""Bytes of a member's name: PATH_MAX, less where it will lie."""
MAX_READ = 1 << 22
"""Bytes that tarfile may want at once, for a member's name, say."""
TOP = ("manifest.json", "state.db", "authorized_keys", "apps", "databases", "end.json")
ENTRIES = ("logs", "git", "releases", "state")
GIT = ("refs", "packed-refs", "shallow", "objects")
"""In this order, since objects that refs name are there before them."""
_LOG = re.compile(r"(deployment-[1-9][0-9]*|job-[a-z][a-z0-9_-]{0,30}|instances)\.log"
                  r"|deployment-[1-9][0-9]*\.probe")  # fmt: skip
_OBJECT = re.compile(r"[0-9a-f]{2}(/[0-9a-f]{38,62})?"
                     r"|pack(/pack-[0-9a-f]{40,64}\.(pack|idx|rev|mtimes))?")  # fmt: skip
DIRECTORY, FILE, LINK, HARD = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
FAULTS = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
"""The exceptions that reading a member's content can raise."""
Parts = tuple[str, ...]


class Exactly:
    """A file of the size that it had when it was opened, with zeros for what was cut off since."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """As many bytes."""
        return self._file.read(size).ljust(size, b"\0")


class _Stream(gzip.GzipFile):
    """The input of tarfile: it only reads forwards, and never more than tarfile has reason to."""

    def read(self, size: int | None = -1) -> bytes:
        """See GzipFile."""
        if size is None or not 0 <= size <= MAX_READ:
            raise tarfile.ReadError("a part that is too large")
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See GzipFile."""
        at = super().seek(0, io.SEEK_CUR)
        if (whence, offset) == (io.SEEK_CUR, 0):  # a query of the position
            return at
        if whence != io.SEEK_SET or offset < at:
            raise tarfile.ReadError("overlapping parts")
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
        """The files that a hard link may refer to."""
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
                        raise InvalidInput("The backup has missing or extra members.")
                    yield info, parts, content
                    self._last, self._count = parts, self._count + 1
                while stream.read(1 << 16):  # to its checksum
                    pass
        except (GatlingError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001 (tarfile raises what it likes)
            raise damaged(error) from None
        if self._last != ("end.json",):
            raise InvalidInput("The backup is truncated.")

    def _check(self, info: tarfile.TarInfo, parts: Parts) -> None:
        while self._above[-1] != parts[: len(self._above[-1])]:
            self._above.pop()
        if not allowed(info, parts) or self._above[-1] != parts[:-1]:
            raise InvalidInput(f"The backup has an unexpected member: {info.name!r}")
        if parts != TOP[:1] if not self._last else place(self._last) >= place(parts):
            raise InvalidInput(f"The backup is out of order at {info.name!r}.")
        if len(parts) == 2:
            self._files.clear()
            if parts[1] not in self.manifest[parts[0]]:
                what = "an app" if parts[0] == "apps" else "a database"
                raise InvalidInput(f"The backup has {what} that it does not list: {parts[1]!r}")
        if info.type == HARD and info.linkname not in self._files:
            raise InvalidInput(f"{info.name!r} is a link to a missing file.")
        if info.type == FILE and parts[2:3] == ("releases",):
            self._files.add(info.name)
        if info.type == DIRECTORY:
            self._above.append(parts)


def allowed(info: tarfile.TarInfo, parts: Parts) -> bool:
    """Whether a member may be what it is where it is; what lies above it is not looked at."""
    if not _sane(info, parts):
        return False
    match parts:
        case ["apps"] | ["apps", _]:
            return info.type == DIRECTORY
        case ["databases"] | ["databases", _]:
            return info.type == (FILE if len(parts) == 2 else DIRECTORY)
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


def place(parts: Parts) -> tuple[Any, ...]:
    """The sort key of a member's place in the archive."""
    place: tuple[Any, ...] = (TOP.index(parts[0]), *parts[1:2])
    if len(parts) > 2:
        below: tuple[Any, ...] = parts[3:]
        if parts[2] == "git" and below:
            below = (GIT.index(parts[3]), *parts[4:])
        place += (ENTRIES.index(parts[2]), *below)
    return place


def member(parts: Parts, kind: bytes, found: os.stat_result | None = None) -> tarfile.TarInfo:
    """A member of this kind; with `found`, one that is like a file of the host's."""
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
    if not isinstance(found, dict) or found.get("format") not in READABLE:
        raise InvalidInput("Another version of Gatling wrote this backup.")
    listed = found.get("apps")
    if not isinstance(listed, list) or [names.app_name(str(a)) for a in listed] != listed:
        raise InvalidInput("The backup does not list its apps.")
    databases = found.setdefault("databases", [])
    if not isinstance(databases, list) or [names.app_name(str(d)) for d in databases] != databases:
        raise InvalidInput("The backup does not list its databases.")
    if found.get("machine") != platform.machine():
        raise InvalidInput(
            f"The backup is from a host of another architecture: {found.get('machine')!r}, and"
            " this is"
            f" {platform.machine()}. Its releases cannot run here.",
            hint="Create the apps here with `gatling load` and push them.",
        )
    return found


def damaged(error: Exception) -> InvalidInput:
    """Return the error for an archive that cannot be read."""
    return InvalidInput(f"This is not a backup, or a damaged one: {error!r}")
