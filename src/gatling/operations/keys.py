"""SSH keys: reading what somebody pastes, and the authorized_keys file that lets them in.

sshd(8), AUTHORIZED_KEYS FILE FORMAT, describes the file. ssh-keygen, which has the parser of sshd,
reads the keys. sshd lets a key run its forced command and nothing else.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import files, process
from gatling.cleanup import cleaning
from gatling.errors import CommandFailed, GatlingError, InvalidInput
from gatling.paths import exclusively
from gatling.state import audit
from gatling.state import keys as state

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gatling.paths import Home
    from gatling.platform.open import Gatling
    from gatling.state.database import Database
    from gatling.state.keys import Key, Role

MAX_TEXT = 16 * 1024
"""Characters of a pasted key; the largest RSA key that sshd takes has 2.8 thousand."""

MIN_RSA_BITS = 2048
"""The smallest RSA key that is still safe, in bits; OpenSSH itself accepts 1024."""

REFUSED = 255
"""The exit status of ssh-keygen for a text that is no public key."""

WITH_TERMINAL = ("admin", "deployer")
"""The roles that may open a console, which needs a terminal."""

_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
"""The types of key that are taken: not DSA, which is unsafe, and no certificates."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_BLOB = re.compile(r"[A-Za-z0-9+/]+={0,2}\Z")
_FINGERPRINT = re.compile(r"([0-9]{1,5}) (SHA256:[A-Za-z0-9+/]{43}) ")
"""BITS FINGERPRINT COMMENT (TYPE), as `ssh-keygen -l` prints a key."""
_NEW_KEY = "`ssh-keygen -t ed25519` creates one. Its public half is in the file that ends in .pub."


class PublicKey(Struct, frozen=True):
    """A public key that sshd will take."""

    type: str
    blob: str
    """The key in base64, as it stands in a .pub file."""
    fingerprint: str
    """`SHA256:…`, as `ssh-keygen -l` prints it."""


class KeyEntry(Struct, frozen=True):
    """A key that is let in. The key itself is left out."""

    name: str
    role: Role
    apps: list[str]
    """`*` stands for all."""
    type: str
    fingerprint: str
    created_at: str


def every(gatling: Gatling) -> list[KeyEntry]:
    """The keys that are let in, by name."""
    return [
        KeyEntry(key.name, key.role, list(key.apps), key.type, key.fingerprint, key.created_at)
        for key in state.every(gatling.db)
    ]


def parse(text: str) -> PublicKey:
    """The public key on a line as in a .pub file, without its comment.

    Raises InvalidInput, or MissingProgram without ssh-keygen. An error never repeats the input: it
    may be a private key, or anything else that was in somebody's clipboard.
    """
    if len(text) > MAX_TEXT:
        raise InvalidInput(f"A public key has at most {MAX_TEXT} characters.", hint=_NEW_KEY)
    if "PRIVATE KEY" in text or "PuTTY-User-Key-File" in text or "Private-Lines" in text:
        raise InvalidInput(
            "This is a private key, which you should keep secret. It was not stored.",
            hint="Give the public one: the file that ends in .pub.",
        )
    if "BEGIN SSH2 PUBLIC KEY" in text:
        raise InvalidInput(
            "This public key is in another format than OpenSSH's.",
            hint="`ssh-keygen -i -f FILE` converts it.",
        )
    line = text.strip(" \t\r\n")
    if not line:
        raise InvalidInput("No key was given.", hint=_NEW_KEY)
    if "\n" in line or "\r" in line:
        raise InvalidInput("Give exactly one key, on one line.", hint=_NEW_KEY)
    if _CONTROL.search(line):
        raise InvalidInput("The key has control characters.", hint=_NEW_KEY)
    kind, *rest = re.split(r"[ \t]+", line, maxsplit=2)
    if kind not in _TYPES:
        raise _other_type(kind, line)
    if not rest:
        raise InvalidInput("The key is cut off: after its type there is nothing.", hint=_NEW_KEY)
    if not _BLOB.match(rest[0]):
        raise InvalidInput("The key is damaged: it is not base64.", hint=_NEW_KEY)
    bits, fingerprint = _read(kind, rest[0])
    if kind == "ssh-rsa" and bits < MIN_RSA_BITS:
        raise InvalidInput(
            f"An RSA key must have at least {MIN_RSA_BITS} bits; this one has {bits}.",
            hint=_NEW_KEY,
        )
    return PublicKey(kind, rest[0], fingerprint)


def authorized_keys(keys: Iterable[Key], command: str) -> str:
    """The text of authorized_keys: one line for each key, which may run `COMMAND NAME` alone.

    `command` is read by a shell (sshd(8)): its words must have been quoted for one. Raises
    GatlingError for what would be another line, command or option than meant.
    """
    if not command or not command.isprintable() or "\\" in command:
        raise GatlingError(f"Not a command for authorized_keys: {command!r}")
    quoted = command.replace('"', r"\"")
    lines = []
    for key in keys:
        # they were checked when they were added; a line here is a way in, so: once more
        if not (state.is_name(key.name) and key.type in _TYPES and _BLOB.match(key.blob)):
            raise GatlingError(f"Not a key for authorized_keys: {key.name!r}")
        pty = ",pty" if key.role in WITH_TERMINAL else ""
        options = f'restrict{pty},command="{quoted} {key.name}"'
        lines.append(f"{options} {key.type} {key.blob} {key.name}\n")
    return "".join(lines)


def write(path: Path, text: str) -> None:
    """Write an authorized_keys file; sshd wants it and its directory to be its user's alone."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        files.write(path, text, mode=0o600)
    except OSError as error:
        raise GatlingError(f"{path} cannot be written: {error.strerror}.") from None


def authorized_keys_path(home: Home) -> Path:
    """Return sshd's file of keys for the user whose home directory the home is."""
    return home.root / ".ssh" / "authorized_keys"


def synchronize(home: Home, db: Database) -> None:
    """Write the authorized_keys file as the keys are recorded now."""
    command = f"{shlex.quote(str(home.command))} ssh-command"
    write(authorized_keys_path(home), authorized_keys(state.every(db), command))


def check(gatling: Gatling, name: str, text: str) -> PublicKey:
    """The public key that `add` would let in under a name; raises InvalidInput for what it refuses.

    Nothing is changed, and the home need not exist.
    """
    public = parse(text)
    state.check_new(gatling.db, name, public.fingerprint)
    return public


def add(gatling: Gatling, name: str, text: str, role: Role, apps: Iterable[str]) -> Key:
    """Let a key in; raises InvalidInput, and then nothing has been changed."""
    public = check(gatling, name, text)
    with exclusively(gatling.home, "keys"):
        key = state.add(
            gatling.db,
            name,
            kind=public.type,
            blob=public.blob,
            fingerprint=public.fingerprint,
            role=role,
            apps=apps,
        )
        try:
            synchronize(gatling.home, gatling.db)
        except BaseException as error:
            with cleaning(error):
                state.remove(gatling.db, name)
            raise
        detail = f"{name} {role} {','.join(key.apps)} {key.fingerprint}"
        audit.record(gatling.db, gatling.actor, None, "server keys add", detail)
    return key


def remove(gatling: Gatling, name: str) -> None:
    """Remove a key; raises NotFound. Its running commands continue to their end."""
    state.get(gatling.db, name)  # first, as there may be no home to lock
    with exclusively(gatling.home, "keys"):
        key = state.get(gatling.db, name)
        state.remove(gatling.db, name)
        synchronize(gatling.home, gatling.db)
        detail = f"{name} {key.fingerprint}"
        audit.record(gatling.db, gatling.actor, None, "server keys remove", detail)


def is_last_admin(gatling: Gatling, name: str) -> bool:
    """Whether nobody could change anything over SSH any more without this key."""
    return [key.name for key in state.every(gatling.db) if key.role == "admin"] == [name]


def _other_type(kind: str, line: str) -> InvalidInput:
    if kind.endswith("-cert-v01@openssh.com"):
        return InvalidInput("This is a certificate, not a key.", hint=_NEW_KEY)
    if kind == "ssh-dss":
        return InvalidInput("DSA keys are no longer safe, and sshd refuses them.", hint=_NEW_KEY)
    if any(word in _TYPES for word in re.split(r"[ \t]+", line)):
        return InvalidInput(
            "There is text before the key type. Options are not accepted.",
            hint="Give the line as it is in the .pub file.",
        )
    return InvalidInput(
        "This is not a public key in OpenSSH's format.",
        hint=f"It begins with ssh-ed25519, ecdsa-sha2-…, sk-… or ssh-rsa. {_NEW_KEY}",
    )


def _read(kind: str, blob: str) -> tuple[int, str]:
    """The bits and the fingerprint of a key, as OpenSSH reads it; raises InvalidInput.

    ssh-keygen gets the type and the blob alone, each checked before: nothing else of a pasted text
    reaches its parser, which also reads options, comments and several lines.
    """
    try:
        found = process.output(
            ["ssh-keygen", "-l", "-E", "sha256", "-f", "-"], stdin=f"{kind} {blob}\n", timeout=10
        )
    except CommandFailed as error:
        if error.status != REFUSED:
            raise
        raise InvalidInput("The key is damaged or cut off.", hint=_NEW_KEY) from None
    match = _FINGERPRINT.match(found)
    if match is None:
        raise CommandFailed("ssh-keygen printed no fingerprint.", log=found.splitlines())
    return int(match[1]), match[2]
