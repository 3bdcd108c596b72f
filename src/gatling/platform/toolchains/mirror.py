"""Builds of Elixir and OTP on a mirror with the layout of Hex' builds, with their checksums.

builds/elixir/builds.txt                    v1.18.4-otp-27 COMMIT DATE SHA256
builds/elixir/v1.18.4-otp-27.zip
builds/otp/amd64/ubuntu-22.04/builds.txt    OTP-27.3.4 COMMIT DATE SHA256
builds/otp/amd64/ubuntu-22.04/OTP-27.3.4.tar.gz
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING, NamedTuple

from gatling.errors import CommandFailed, InvalidInput, NotFound
from gatling.files import Space
from gatling.project.toolchains import Version, version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from http.client import HTTPMessage
    from pathlib import Path
    from urllib.request import Request

    from gatling.project.toolchains import Wanted

SILENCE_SECONDS = 30.0
"""Time without a byte after which a mirror is given up."""
LIST_SECONDS = 60.0
ARCHIVE_SECONDS = 1200.0
MAX_LIST = 8 << 20
MAX_LINES = 20_000
MAX_ARCHIVE = 1 << 30
_ELIXIR = re.compile(r"v([0-9][0-9a-z.-]*?)-otp-([0-9]+)")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Build(NamedTuple):
    """An archive of a mirror."""

    what: str
    """For people: `Elixir 1.18.4 for OTP 27`."""
    path: str
    """Its place on the mirror."""
    version: Version
    for_otp: int
    """The OTP that an Elixir was compiled with."""
    sha256: str


def platforms(machine: str, libc: tuple[int, ...]) -> list[str]:
    """The directories of OTP builds that run on a machine, the preferred one first."""
    name = _MACHINES.get(machine)
    if name is None:
        raise InvalidInput(f"There are no builds of OTP for {machine}.")
    return [f"{name}/ubuntu-{each}" for each in (("24.04",) if libc >= (2, 39) else ())
            + ("22.04",)]  # fmt: skip


def this_host() -> list[str]:
    """The same for the machine that this runs on."""
    libc = os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0"
    numbers = tuple(int(each) for each in re.findall(r"[0-9]+", libc)[:2])
    return platforms(os.uname().machine, numbers)


def elixirs(text: str) -> list[Build]:
    """The builds of Elixir that a builds.txt lists; lines that are not known are left out."""
    found = []
    for name, checksum in _lines(text):
        match = _ELIXIR.fullmatch(name)
        known = version(match[1]) if match else None
        if match is not None and known is not None:
            found.append(Build(f"Elixir {known} for OTP {match[2]}", f"builds/elixir/{name}.zip",
                               known, int(match[2]), checksum))  # fmt: skip
    return found


def otps(text: str, platform: str) -> list[Build]:
    """The builds of OTP that a builds.txt lists."""
    found = []
    for name, checksum in _lines(text):
        known = version(name.removeprefix("OTP-"))
        if known is not None and name.startswith("OTP-"):
            found.append(Build(f"OTP {known}", f"builds/otp/{platform}/{name}.tar.gz",
                               known, known.numbers[0], checksum))  # fmt: skip
    return found


def _lines(text: str) -> list[tuple[str, str]]:
    every = [line.split() for line in text.splitlines()[:MAX_LINES]]
    checksum = re.compile(r"[0-9a-f]{64}")
    return [
        (words[0], words[3] if len(words) > 3 and checksum.fullmatch(words[3]) else "")
        for words in every
        if words and re.fullmatch(r"[A-Za-z0-9.-]{1,60}", words[0])
    ]


def newest(
    wanted: Wanted, elixir: Sequence[Build], otp: Sequence[Build]
) -> tuple[Build, Build] | None:
    """The newest Elixir that is meant with the newest OTP that it was compiled for.

    None when there is no pair. A pre-release is only taken when it is named in full.
    """
    best: dict[int, Build] = {}
    for each in otp:
        meant = each.version.pre == "" if wanted.otp is None else wanted.otp.begins(each.version)
        before = best.get(each.for_otp)
        if meant and (before is None or before.version.order < each.version.order):
            best[each.for_otp] = each
    for one in sorted(elixir, key=lambda each: (each.version.order, each.for_otp), reverse=True):
        meant = not one.version.pre if wanted.elixir is None else wanted.elixir.begins(one.version)
        if meant and one.for_otp in best:
            return one, best[one.for_otp]
    return None


def pair(url: str, wanted: Wanted) -> tuple[Build, Build]:
    """The two builds of a mirror to download; raises NotFound, CommandFailed."""
    elixir = elixirs(_text(url, "builds/elixir/builds.txt"))
    for platform in this_host():
        try:
            found = newest(wanted, elixir, otps(_text(url, f"builds/otp/{platform}/builds.txt"),
                                                platform))  # fmt: skip
        except NotFound:
            continue
        if found is not None:
            return found
    known = sorted({each.version for each in elixir if not each.version.pre},
                   key=lambda each: each.order, reverse=True)  # fmt: skip
    newest_known = f" The newest Elixir there is {known[0]}." if known else ""
    raise NotFound(
        f"{url} has no build of {_named(wanted)} for this host.{newest_known}",
        hint="Each Elixir supports some versions of OTP only: leave out the OTP to get one that"
        " fits.",
    )


def _named(wanted: Wanted) -> str:
    parts = [f"Elixir {wanted.elixir}" if wanted.elixir else "Elixir"]
    return " with ".join([*parts, *([f"OTP {wanted.otp}"] if wanted.otp else [])])


def download(url: str, build: Build, target: Path) -> None:
    """Download an archive and compare its checksum; raises CommandFailed, InvalidInput, OSError."""
    if not build.sha256:
        raise InvalidInput(
            f"{url} lists no checksum for {build.what}, so it was not downloaded.",
            hint="Download it yourself, then `gatling toolchain install VERSION --from FILE`.",
        )
    chunks = _read(url, build.path, MAX_ARCHIVE, ARCHIVE_SECONDS)
    _keep(chunks, target, build.sha256, f"{url}/{build.path}")


def take(archive: Path, target: Path, sha256: str) -> None:
    """Copy an archive of this host and compare the copy's checksum; raises InvalidInput, OSError.

    The archive may be in a place where others write, and be another one a moment later.
    """
    with archive.open("rb") as file:
        _keep(iter(lambda: file.read(1 << 20), b""), target, sha256.lower(), str(archive))


def _keep(chunks: Iterable[bytes], target: Path, sha256: str, what: str) -> None:
    digest, space = hashlib.sha256(), Space(target.parent, "A toolchain")
    with target.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            space.written(len(chunk))
            file.write(chunk)
    if digest.hexdigest() != sha256:
        raise _mismatch(what, sha256, digest.hexdigest())


def _mismatch(what: str, wanted: str, found: str) -> InvalidInput:
    """Return the error for an archive that is not the one that was meant."""
    return InvalidInput(
        f"{what} is not the file that was published: its SHA-256 is {found}, not {wanted}.",
        hint="Nothing was installed. Try again later, or from another mirror.",
    )


def _text(url: str, path: str) -> str:
    return b"".join(_read(url, path, MAX_LIST, LIST_SECONDS)).decode("utf-8", "replace")


def _read(url: str, path: str, limit: int, seconds: float) -> Iterator[bytes]:
    """Yield a file of the mirror in pieces; raises NotFound, CommandFailed."""
    where, deadline, count = f"{url}/{path}", time.monotonic() + seconds, 0
    request = urllib.request.Request(where, headers={"User-Agent": "gatling"})  # noqa: S310 (URL)
    try:
        with _opener().open(request, timeout=SILENCE_SECONDS) as answer:
            length = _length(answer.headers.get("Content-Length"))
            while chunk := answer.read1(1 << 18):
                count += len(chunk)
                if count > limit:
                    raise CommandFailed(f"{where} has more than {limit >> 20} MB.")
                if time.monotonic() > deadline:
                    raise TimeoutError
                yield chunk
            if length is not None and count < length:
                raise CommandFailed(f"{where} broke off after {count} of {length} bytes.")
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise NotFound(f"{where} does not exist.") from None
        raise CommandFailed(f"{where}: status {error.code}.") from None
    except (TimeoutError, socket.timeout):  # noqa: UP041 (both, for the reader)
        raise _unreached(f"{where} did not answer in time") from None
    except urllib.error.URLError as error:
        reason = error.reason if isinstance(error.reason, str) else _reason(error.reason)
        raise _unreached(f"{url} cannot be reached: {reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        # a ValueError is of what a mirror sends in its headers
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise _unreached(f"{where} broke off: {error}") from None


def _length(said: str | None) -> int | None:
    if said is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", said):
        raise ValueError("it gave no valid length")
    return int(said)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a mirror to another place, but never from HTTPS to a place without it."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> Request | None:
        """See HTTPRedirectHandler."""
        kind = newurl.partition(":")[0].lower()
        if kind not in ("http", "https") or (req.type == "https" and kind != "https"):
            raise urllib.error.URLError(f"it redirects to {newurl[:200]}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return getattr(error, "strerror", None) or str(error)


def _unreached(what: str) -> CommandFailed:
    return CommandFailed(
        f"{what}.",
        hint="To use another mirror, run `gatling toolchain source --mirror URL`. A toolchain can"
        " also come from a file or directory: `--from PATH`. A server downloads without a proxy,"
        " and an embedded home with the one that HTTPS_PROXY names.",
    )
