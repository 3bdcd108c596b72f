"""Certificates that a host keeps for its apps: APP/ID with `chain.pem`, `key.pem` and `about.json`.

A certificate's directory is complete when it appears and never changes. Another certificate is
another directory, which exists before nginx' configuration names it, so that a command that fails
leaves the one before in use. Only the owner of the directories can read keys; on a server, that is
root. A certificate's about.json is readable for all. The module that reads certificates themselves
(x509.py) is loaded only when one is added.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from gatling import files, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

CHAIN, KEY, ABOUT = "chain.pem", "key.pem", "about.json"
REQUESTED = ".requested"
"""The directory of a key for which a certificate has been requested, beside the certificates."""
RETIRED = "retired"
"""The mark of a certificate that goes when nginx' configuration no longer names it."""
STALE_SECONDS = 3600
"""Age from which what a command has begun to write is that of one that was killed."""
MAX_NAMES = 100
"""Names in one certificate of a CA: the limit of Let's Encrypt."""
_ID = re.compile(r"[0-9a-f]{32}\Z")


class Certificate(NamedTuple):
    """A certificate as people need it. Its key stays with the host."""

    id: str
    """The first half of its SHA-256 fingerprint, in hexadecimal digits."""
    names: tuple[str, ...]
    """Domains (also with `*.`) and IP addresses, as it lists them."""
    issuer: str
    not_before: int
    """Unix time, in seconds."""
    not_after: int
    """Unix time, in seconds; the last second of its validity."""
    key: str
    """For example `RSA 2048` or `ECDSA P-256`."""
    self_signed: bool
    alone: bool
    """Whether it came without the certificate of its issuer, which clients may not have."""
    added: float
    """Unix time: of several certificates for a domain, the one added last is served."""
    obtained: bool = False
    """Whether Gatling obtained it from a CA, and so renews it."""


def from_plain(data: dict[str, Any]) -> Certificate:
    """A certificate from what JSON has of it, as `_asdict` makes it."""
    return Certificate(**(data | {"names": tuple(data["names"])}))


def identity(der: bytes) -> str:
    """The id of a certificate, as DER."""
    import hashlib  # commands that read certificates do not need it

    return hashlib.sha256(der).hexdigest()[:32]


def covers(certificate_names: Sequence[str], domain: str) -> bool:
    """Whether a certificate with these names is one for a domain (RFC 9525, section 6.3).

    A `*` stands for exactly one label, the first. A domain with one needs the very same name.
    """
    rest = domain.partition(".")[2]
    return domain in certificate_names or (
        not domain.startswith("*.") and bool(rest) and f"*.{rest}" in certificate_names
    )


def chosen(
    stored: Iterable[Certificate], domains: Iterable[str], now: float
) -> dict[str, Certificate]:
    """Choose the certificate of each domain: of those for it, the one that was added last.

    One that somebody gave comes before those that Gatling obtained. One that has expired at `now`
    (Unix time) comes last, and is better than none: browsers that remember HSTS accept nothing
    else, and a person can decide to go on.
    """
    by_rank = sorted(
        stored, key=lambda one: (one.not_after < now, one.obtained, -one.added, one.id)
    )
    found = {}
    for domain in domains:
        best = next((one for one in by_rank if covers(one.names, domain)), None)
        if best is not None:
            found[domain] = best
    return found


def stored(directory: Path, app: str) -> list[Certificate]:
    """The certificates of an app but the retired ones, the last one first; raises OSError."""
    found = []
    try:
        entries = [entry for entry in (directory / app).iterdir() if _ID.match(entry.name)]
    except FileNotFoundError:
        return []
    for entry in entries:
        if (entry / RETIRED).exists():
            continue
        with contextlib.suppress(FileNotFoundError):  # removed in between
            found.append(from_plain(json.loads((entry / ABOUT).read_text())))
    return sorted(found, key=lambda one: (-one.added, one.id))


def add(directory: Path, app: str, certificate: Certificate, chain: bytes, key: bytes) -> bool:
    """Keep a certificate, on the disk when this returns; False if it is there and in use already.

    Raises OSError, leaving nothing.
    """
    place = directory / names.app_name(app) / certificate.id
    if place.is_dir():
        if not (place / RETIRED).exists():
            return False
        _remove(place)
    for made in (directory, place.parent):
        made.mkdir(mode=0o755, exist_ok=True)
        made.chmod(0o755)
    making = place.with_name(f".{certificate.id}.new")
    shutil.rmtree(making, ignore_errors=True)  # of somebody who was killed
    making.mkdir(mode=0o700)
    try:
        about = json.dumps(certificate._asdict()).encode()
        for name, data, mode in ((KEY, key, 0o600), (CHAIN, chain, 0o644), (ABOUT, about, 0o644)):
            _write(making / name, data, mode)
        files.sync(making)
        making.chmod(0o755)
        making.rename(place)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    files.sync(place.parent)
    return True


def retire(directory: Path, app: str, certificate: str, *, retired: bool) -> None:
    """Let nginx' next configuration not name a certificate, or let it be as before.

    Nothing happens when it is not there. Raises OSError.
    """
    place = directory / names.app_name(app) / certificate
    if _ID.match(certificate) and place.is_dir():
        if retired:
            (place / RETIRED).touch(mode=0o644)
        else:
            (place / RETIRED).unlink(missing_ok=True)


def remove_retired(directory: Path, app: str) -> None:
    """Remove the retired certificates of an app, which no configuration names; raises OSError.

    So are the remains of commands that were killed, which have keys in them.
    """
    place = directory / names.app_name(app)
    for entry in list(place.iterdir()) if place.is_dir() else []:
        if _is_retired(entry):
            _remove(entry)
        elif _is_left(entry):
            shutil.rmtree(entry, ignore_errors=True)


def has_leftovers(directory: Path, app: str) -> bool:
    """Whether `remove_retired` would remove something of an app; raises OSError."""
    place = directory / names.app_name(app)
    entries = list(place.iterdir()) if place.is_dir() else []
    return any(_is_retired(entry) or _is_left(entry) for entry in entries)


def _is_retired(entry: Path) -> bool:
    return bool(_ID.match(entry.name)) and (entry / RETIRED).exists()


def _is_left(entry: Path) -> bool:
    """Whether nobody finishes what is here: one that is being removed, or was made long ago."""
    if not entry.name.startswith("."):
        return False
    if entry.suffix == ".gone":
        return True
    if entry.suffix != ".new" and entry.name != REQUESTED:
        return False
    try:
        return entry.lstat().st_mtime < time.time() - STALE_SECONDS
    except OSError:
        return False


def copy(directory: Path, source: str, target: str, certificate: str) -> bool:
    """Keep a certificate of one app for another one as well; False if it has it already.

    Raises FileNotFoundError for one that is not there, and OSError, leaving nothing.
    """
    place = directory / names.app_name(source) / certificate
    if not _ID.match(certificate):
        raise FileNotFoundError(certificate)
    known = from_plain(json.loads((place / ABOUT).read_text()))
    chain, key = (place / CHAIN).read_bytes(), (place / KEY).read_bytes()
    return add(directory, target, known, chain, key)


def keep_request(directory: Path, app: str, key: bytes, domains: Sequence[str]) -> None:
    """Keep the key of a certificate that is being requested, in the place of an earlier one.

    It is on the disk when this returns. Raises OSError.
    """
    place = directory / names.app_name(app)
    for made in (directory, place):
        made.mkdir(mode=0o755, exist_ok=True)
        made.chmod(0o755)
    forget_request(directory, app)
    making = place / f"{REQUESTED}.new"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    try:
        _write(making / KEY, key, 0o600)
        _write(making / ABOUT, json.dumps(list(domains)).encode(), 0o600)
        files.sync(making)
        making.rename(place / REQUESTED)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    files.sync(place)


def requested(directory: Path, app: str) -> tuple[bytes, tuple[str, ...]] | None:
    """The key of the certificate that is being requested, and its domains; raises OSError."""
    place = directory / names.app_name(app) / REQUESTED
    try:
        return (place / KEY).read_bytes(), tuple(json.loads((place / ABOUT).read_text()))
    except FileNotFoundError:
        return None


def forget_request(directory: Path, app: str) -> None:
    """Remove the key of a request; raises OSError."""
    place = directory / names.app_name(app) / REQUESTED
    if place.is_dir():
        _remove(place)


def remove_all(directory: Path, app: str) -> None:
    """Remove all of an app's; raises OSError."""
    if (directory / names.app_name(app)).is_dir():
        shutil.rmtree(directory / app)


def _remove(place: Path) -> None:
    gone = place.with_name(f".{place.name.removeprefix('.')}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    place.rename(gone)  # whole, or not at all
    with contextlib.suppress(FileNotFoundError):  # another command removes it as well
        shutil.rmtree(gone)


def _write(path: Path, data: bytes, mode: int) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(opened, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
