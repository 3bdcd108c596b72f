"""The place of backups: a directory of this machine, an S3 bucket, or another machine over SFTP.

The settings have secrets. They are in a file that only the OS user of the clusters can read, and
in pgBackRest's configuration, which has the same rights. They are never words of a command line.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gatling.errors import GatlingError, InvalidInput

DIRECTORY, S3, SFTP = "directory", "s3", "sftp"
PORTS = {S3: 443, SFTP: 22}
PATH = "/gatling"
ENCRYPTED = "encrypted"
"""The directory of encrypted backups, in that of backups on this machine."""
LEAST_PASSPHRASE = 12
_WORD = re.compile(r"[!-~]{1,255}")
"""A value: pgBackRest's configuration has one a line, and takes blanks at its ends away."""
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_STATUS = re.compile(r"HTTP request failed with ([0-9]{3})")
_FAULT = re.compile(
    r"(?:ERROR: \[(?P<number>[0-9]{3})\]: |\[(?P<kind>[A-Za-z]+)\] )(?P<text>[^\n]*)"
)
_CONNECT = ("049", "HostConnectError")
_CRYPTO = ("029", "FormatError", "095", "CryptoError")
"""With a wrong passphrase, a file is no cipher text, or its text has no form."""
_CLOSED = (401, 403)


@dataclass(frozen=True)
class Repository:
    """The place of backups, and what is needed to use it."""

    kind: str = DIRECTORY
    host: str = ""
    port: int = 0
    path: str = ""
    bucket: str = ""
    region: str = ""
    path_style: bool = False
    """Whether the bucket's name is in the path of a URL, and not in the host's name."""
    ca_file: str = ""
    """The file with the certificates that the server's is checked by; empty: the system's."""
    user: str = ""
    key_file: str = ""
    """The private SSH key."""
    fingerprint: str = ""
    """The SHA-256 of the server's SSH key, in hexadecimal digits."""
    key: str = ""
    key_secret: str = ""
    passphrase: str = ""
    """Encrypts the backups; empty: they are not encrypted."""
    encrypted: bool = False
    """Whether the backups in the directory of this machine are encrypted: those are in another
    directory than the others."""

    @property
    def is_remote(self) -> bool:
        """Whether it is on another machine."""
        return self.kind != DIRECTORY

    @property
    def is_usual(self) -> bool:
        """Whether it is what a host has without settings."""
        return not self.is_remote and not self.encrypted

    @property
    def url(self) -> str:
        """Its place, without secrets; empty for the directory."""
        if self.kind == S3:
            return f"s3://{self.bucket}{self.path}"
        if self.kind == SFTP:
            return f"sftp://{self.user}@{self.host}:{self.port}{self.path}"
        return ""

    @property
    def public(self) -> Repository:
        """The same without secrets."""
        return replace(self, key_secret="", passphrase="")

    def is_same_place(self, other: Repository) -> bool:
        """Whether another one has the same backups."""
        mine = (self.url, self.host, self.port, self.encrypted)
        return mine == (other.url, other.host, other.port, other.encrypted)

    def options(self, directory: str = "") -> dict[str, str]:
        """Options of pgBackRest for the place; none for the directory of this machine as it is."""
        if self.is_usual:
            return {}
        found = {"path": f"{directory}/{ENCRYPTED}"} if not self.is_remote else self._elsewhere()
        if self.passphrase:
            found |= {"cipher-type": "aes-256-cbc", "cipher-pass": self.passphrase}
        return {f"repo1-{name}": value for name, value in found.items()}

    def _elsewhere(self) -> dict[str, str]:
        found = {"type": self.kind, "path": self.path, "bundle": "y"}
        if self.kind == S3:
            found |= {
                "s3-bucket": self.bucket, "s3-endpoint": self.host, "s3-region": self.region,
                "storage-port": str(self.port), "s3-key": self.key,
                "s3-key-secret": self.key_secret,
                "s3-uri-style": "path" if self.path_style else "host",
            }  # fmt: skip
            if self.ca_file:
                found["storage-ca-file"] = self.ca_file
        else:
            found |= {
                "sftp-host": self.host, "sftp-host-port": str(self.port),
                "sftp-host-user": self.user, "sftp-private-key-file": self.key_file,
                "sftp-host-key-check-type": "fingerprint", "sftp-host-key-hash-type": "sha256",
                "sftp-host-fingerprint": self.fingerprint,
            }  # fmt: skip
        return found

    def environment(self, directory: str = "") -> dict[str, str]:
        """The same options as variables, for a command without a configuration."""
        return {f"PGBACKREST_{name.upper().replace('-', '_')}": value
                for name, value in self.options(directory).items()}  # fmt: skip


def from_url(url: str) -> Repository:
    """The place that a URL names: `s3://BUCKET/PATH`, `sftp://USER@HOST:PORT/PATH`, `directory`.

    Raises InvalidInput.
    """
    if url == DIRECTORY:
        return Repository()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _not_a_place(url) from None
    if parts.query or parts.fragment or parts.password is not None:
        raise _not_a_place(url)
    path = parts.path.rstrip("/") or PATH
    host = parts.hostname or ""
    if parts.scheme == S3 and port is None and parts.username is None:
        return Repository(S3, path=path, bucket=parts.netloc)
    if parts.scheme == SFTP and parts.username:
        return Repository(SFTP, host, port or PORTS[SFTP], path, user=parts.username)
    raise _not_a_place(url)


def endpoint(text: str) -> tuple[str, int]:
    """The host and the port of an S3 server; raises InvalidInput."""
    host, _, port = text.removeprefix("https://").rstrip("/").partition(":")
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{0,5}", port):
        raise InvalidInput(
            f"{text!r} is not the endpoint of an S3 server.",
            hint="Use HOST or HOST:PORT, such as s3.eu-central-1.amazonaws.com.",
        )
    return host, int(port or PORTS[S3])


def fingerprint(text: str) -> str:
    """A fingerprint as `ssh-keygen -l` prints it, `SHA256:…`, in digits; raises InvalidInput."""
    kind, _, value = text.partition(":")
    try:
        raw = base64.b64decode(f"{value}=", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if kind != "SHA256" or len(raw) != 32:
        raise InvalidInput(f"{text!r} is not a fingerprint such as SHA256:….",
                           hint="`ssh-keyscan HOST | ssh-keygen -lf -` prints them.")  # fmt: skip
    return raw.hex()


def checked(repository: Repository) -> Repository:
    """The settings, if pgBackRest can be given them; raises InvalidInput."""
    one = repository
    if not one.is_remote:
        if replace(one, passphrase="", encrypted=False) != Repository():
            raise InvalidInput("A directory needs no settings.")
        if one.encrypted != bool(one.passphrase):
            raise InvalidInput("Encrypted backups need a passphrase, and others have none.")
        if one.passphrase:
            _check_passphrase(one.passphrase)
        return one
    each = [
        ("endpoint", _HOST, one.host), ("path", _PATH, one.path),
        *([("bucket", _BUCKET, one.bucket), ("region", _WORD, one.region), ("key", _WORD, one.key),
           ("key-secret", _WORD, one.key_secret)] if one.kind == S3 else
          [("user", _WORD, one.user), ("key file", _PATH, one.key_file),
           ("fingerprint", re.compile(r"[0-9a-f]{64}"), one.fingerprint)]),
    ]  # fmt: skip
    if one.ca_file:
        each.append(("CA file", _PATH, one.ca_file))
    for what, pattern, value in each:
        if not value:
            raise InvalidInput(f"The {what} of the repository is missing.")
        if not pattern.fullmatch(value) or {".", ".."} & set(value.split("/")):
            raise InvalidInput(f"The {what} of the repository has a character that it cannot have.")
    if one.passphrase:
        _check_passphrase(one.passphrase)
    if one.kind not in PORTS or not 0 < one.port < 65536:
        raise InvalidInput(f"{one.port} is not a port.")
    return one


def _check_passphrase(passphrase: str) -> None:
    if not _WORD.fullmatch(passphrase):
        raise InvalidInput("The passphrase of the repository has a character that it cannot have.")
    if len(passphrase) < LEAST_PASSPHRASE:
        raise InvalidInput(f"A passphrase has at least {LEAST_PASSPHRASE} characters.")


def parse(found: dict[str, Any]) -> Repository:
    """The settings from a request or a file; raises InvalidInput."""
    kinds = {field.name: {"str": str, "int": int, "bool": bool}[str(field.type)]
             for field in fields(Repository)}  # fmt: skip
    if found.keys() - kinds.keys():
        raise InvalidInput("The repository has settings that are not known.")
    if any(type(value) is not kinds[name] for name, value in found.items()):
        raise InvalidInput("A setting of the repository has the wrong type.")
    return checked(Repository(**found))


def load(file: str) -> Repository:
    """The settings in a file; the directory of this machine without that file."""
    try:
        text = Path(file).read_text()
    except FileNotFoundError:
        return Repository()
    return parse(json.loads(text))


def text(repository: Repository) -> str:
    """The content of that file."""
    return json.dumps(asdict(repository), indent=2) + "\n"


def explained(said: str, repository: Repository) -> GatlingError | None:
    """An error of pgBackRest about a repository on another machine, in words; None for others.

    It is known by the numbers and names of pgBackRest's errors, by HTTP statuses and S3's codes.
    """
    found = _FAULT.search(said)
    if found is None or repository.is_usual:
        return None
    if status := _STATUS.search(said):
        code = _CODE.search(said)
        return _refused(int(status[1]), code[1] if code else "", repository)
    fault, line = found["number"] or found["kind"], found["text"].rstrip(":")
    where = repository.host
    if fault in _CONNECT:
        return GatlingError(f"{where} cannot be reached: {line}.")
    if fault in _CRYPTO and (not where or where not in line):
        place = repository.url or "the directory of this machine"
        return GatlingError(
            f"The backups in {place} cannot be decrypted.",
            hint="They were encrypted with another passphrase, or not at all.",
        )
    if not repository.is_remote:
        return None
    return GatlingError(f"The backups cannot be kept on {where}: {line}.")


def _refused(status: int, code: str, repository: Repository) -> GatlingError:
    """The answer of an S3 server that is not a success."""
    where, name = repository.host, f" ({code})" if code else ""
    if code == "NoSuchBucket":
        return GatlingError(f"{where} has no bucket {repository.bucket}.")
    if status in _CLOSED:
        return GatlingError(
            f"{where} refuses access to {repository.url}{name}.",
            hint="Check the key, its secret and its rights, and set them with"
            " `gatling db repository`.",
        )
    return GatlingError(f"{where} answered with the HTTP status {status}{name}.")


def _not_a_place(url: str) -> InvalidInput:
    return InvalidInput(
        f"{url!r} is not a place for backups.",
        hint="Use s3://BUCKET/PATH, sftp://USER@HOST:PORT/PATH, or `directory`.",
    )
