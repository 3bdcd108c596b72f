"""The place of backups of databases."""

from __future__ import annotations

import dataclasses
import secrets
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.operations import backups
from gatling.state import audit

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.repository import Repository
    from gatling.ui.progress import Progress


class Shown(Struct, frozen=True):
    """The place of backups."""

    kind: str
    """`directory`, `s3` or `sftp`."""
    url: str
    """The place; empty for the directory of this machine."""
    host: str
    encrypted: bool
    """Whether the backups of a directory of this machine are encrypted."""


class Changed(Struct, frozen=True):
    """The place of further backups."""

    url: str
    encrypted: bool
    passphrase: str
    """One that was created, which is shown once; empty otherwise."""


def show(gatling: Gatling) -> Shown:
    """The place of backups."""
    found = gatling.databases.repository()
    return Shown(found.kind, found.url, found.host, found.encrypted)


def change(
    gatling: Gatling,
    wanted: Repository,
    progress: Progress,
    *,
    encrypt: bool,
    may_install: bool = True,
) -> Changed:
    """Keep further backups elsewhere; those that were made stay where they are.

    With `encrypt` and no passphrase, that of before is kept for the same place, and created for
    another one. Raises InvalidInput with the place of before.
    """
    if not wanted.is_usual and not gatling.databases.can_back_up():
        backups.install(gatling, progress, may_install=may_install)
    before, created, keep = gatling.databases.repository(), "", False
    if not wanted.is_usual and encrypt and not wanted.passphrase:
        keep = wanted.is_same_place(before)
        created = "" if keep else secrets.token_urlsafe(33)
        wanted = dataclasses.replace(wanted, passphrase=created)
    if wanted.is_remote:
        progress.phase(f"Trying {wanted.url}")
    gatling.databases.set_repository(wanted, keep=keep)
    audit.record(gatling.db, gatling.actor, None, "db repository", wanted.url or wanted.kind)
    encrypted = not wanted.is_usual and encrypt
    return Changed(wanted.url, encrypted, created)
