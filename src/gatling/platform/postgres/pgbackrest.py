"""The configuration of pgBackRest, and its report about backups. Pure.

pgBackRest keeps what Gatling found out about a backup as annotations of that backup, so that a
repository says by itself which of its backups are proved.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatling.errors import GatlingError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVED, REFUTED, DOUBTED = "proved", "refuted", "doubted"
"""Annotations: the time of a successful proof, the reason of a failed one, and the reason why a
proof could not be completed."""
TABLES, ROWS = "tables", "rows"
"""Annotations: the numbers of tables and rows that a proof compared."""
MAX_NOTE = 200
"""Characters of an annotation."""
USABLE = (0, 1, 2)
"""Codes of a stanza's status: with backups, without a path yet, and without a backup yet."""
FIRST_WITH_SFTP = (2, 46)
INFO_FILES = {"archive.info", "archive.info.copy", "backup.info", "backup.info.copy"}
"""The files that pgBackRest writes first, one after the other."""
INVALID = "[invalid]"
"""The name of a stanza in a report that could not be made."""
_STANZA = re.compile(r"(?P<database>[a-z0-9-]+)\.(?P<generation>[0-9]{1,6})\.[0-9]{1,20}")


@dataclass(frozen=True)
class Backup:
    """A backup as the repository has it."""

    stanza: str
    label: str
    kind: str
    """`full`, `diff` or `incr`."""
    started: int
    stopped: int
    """Unix time."""
    stop_lsn: int
    """The place in the log from which on the backup is consistent."""
    bytes: int
    """The size of the database at that time."""
    stored: int
    """The bytes that this backup added to the repository."""
    damaged: bool
    """Whether a page had a wrong checksum when it was copied.

    pgBackRest reports that of a page that was being written as well. The log has that page, and a
    restore repairs it.
    """
    proved: str
    refuted: str
    doubted: str
    tables: int
    rows: int

    @property
    def generation(self) -> int:
        """The cluster of the database that this is a backup of."""
        return int(self.stanza.split(".")[1])

    @property
    def reason(self) -> str:
        """Why it is not proved, as far as that is known."""
        torn = self.damaged and not self.proved
        return self.refuted or ("a page has a wrong checksum" if torn else self.doubted)

    @property
    def state(self) -> str:
        """`proved`, `refuted` or `unproved`: only the first one counts as a backup."""
        if self.refuted:
            return "refuted"
        if self.proved:  # all checksums were right after a restore
            return "proved"
        return "refuted" if self.damaged else "unproved"


def stanza(label: str, system: str) -> str:
    """pgBackRest's name for a cluster: a database that is created again has another one."""
    name = f"{label}.{system}"
    if not _STANZA.fullmatch(name):
        raise ValueError(name)
    return name


def version(text: str) -> tuple[int, int]:
    """The version that `pgbackrest version` prints; (0, 0) for something else."""
    found = re.search(r"pgBackRest (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def is_of(name: str, label: str) -> bool:
    """Whether a stanza is that of a cluster, by its database and generation."""
    found = _STANZA.fullmatch(name)
    return found is not None and f"{found['database']}.{found['generation']}" == label


def configuration(
    name: str, data: str, sockets: str, directory: str, remote: Mapping[str, str]
) -> str:
    """pgbackrest.conf for one cluster, whose repository is a directory if it is not remote."""
    place = {"repo1-path": directory} | dict(remote)
    options = "\n".join(f"{name}={value}" for name, value in place.items())
    return f"""\
# Written by Gatling.
[global]
{options}
lock-path={directory}/.lock
spool-path={directory}/.spool
log-level-console=off
log-level-stderr=warn
log-level-file=off
compress-type=lz4
start-fast=y
# Gatling removes old backups once a newer one is proved
expire-auto=n
repo1-retention-full=9999999
# a log that cannot be archived is reported soon, and the disk does not fill
archive-timeout=60

[global:archive-push]
# PostgreSQL tries again by itself, and waits for this at its end
io-timeout=20

[{name}]
pg1-path={data}
pg1-socket-path={sockets}
pg1-user=postgres
"""


def archiving(program: str, configuration_file: str, name: str) -> str:
    """The shell script with which a cluster archives a segment of its log."""
    words = [program, f"--config={configuration_file}", f"--stanza={name}", "archive-push"]
    return f'#!/bin/sh\n# Written by Gatling.\nexec {shlex.join(words)} "$1"\n'


def backups(report: str, database: str = "") -> list[Backup]:
    """The backups in `pgbackrest info --output=json`, the oldest first; of a database, or of all.

    Raises GatlingError for a repository that pgBackRest finds unusable.
    """
    found: list[Backup] = []
    for stanza in json.loads(report, strict=False):  # undecipherable text is quoted in it
        if stanza["name"] == INVALID:
            raise _unusable(stanza)
        named = _STANZA.fullmatch(stanza["name"])
        if named is None or database not in ("", named["database"]):
            continue
        status = stanza["status"]
        if status["code"] not in USABLE:
            raise _unusable(stanza)
        found += [_backup(stanza["name"], one) for one in stanza.get("backup", [])]
    return sorted(found, key=lambda one: (one.stopped, one.label))


def kept(every: list[Backup], count: int, days: int, now: float) -> int:
    """How many full backups of one stanza stay: so many, or as many as these days have.

    The newest proved backup always stays, with the full backup that it builds on.
    """
    full = [one for one in reversed(every) if one.kind == "full"]
    proved = [one.label for one in every if one.state == "proved"]
    if not proved:
        return max(len(full), 1)
    young = sum(1 for one in full if one.stopped >= now - days * 86400)
    newer = [one.label for one in full if one.label >= proved[-1].partition("_")[0]]
    return max(count, young, len(newer), 1)


def at_or_before(every: list[Backup], stanza: str, place: int) -> Backup | None:
    """The newest backup from which a place in the log of a cluster can be reached, or None.

    It is a proved one, if there is one, and never a refuted one. pgBackRest itself takes the newest
    backup of all for a named restore point, and fails when that was made after it.
    """
    usable = [one for one in every if one.stanza == stanza and one.state != "refuted"]
    fitting = [one for one in usable if one.stop_lsn <= place]
    proved = [one for one in fitting if one.state == "proved"]
    return max(proved or fitting, key=lambda one: one.stop_lsn, default=None)


def lsn(text: str) -> int:
    """A place in the log, `0/6000028`, as a number."""
    found = re.fullmatch(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})", text)
    if found is None:
        raise ValueError(f"{text!r} is not a place in the log")
    return (int(found[1], 16) << 32) + int(found[2], 16)


def note(text: str) -> str:
    """A text as the value of an annotation: one line, printable, not too long."""
    return re.sub(r"[^ -~]+", " ", text).strip()[:MAX_NOTE] or "unknown"


def _unusable(stanza: dict[str, Any]) -> GatlingError:
    """The error of a stanza that cannot be read; its repository says more than the stanza."""
    each = [stanza, *stanza.get("repo", [])]
    lines = [line for one in each for line in one["status"]["message"].splitlines()]
    return GatlingError("The repository of backups cannot be used.", log=lines)


def _backup(stanza: str, found: dict[str, Any]) -> Backup:
    notes, info = found.get("annotation") or {}, found["info"]
    return Backup(
        stanza=stanza,
        label=found["label"],
        kind=found["type"],
        started=found["timestamp"]["start"],
        stopped=found["timestamp"]["stop"],
        stop_lsn=lsn(found["lsn"]["stop"]),
        bytes=info["size"],
        stored=info["repository"]["delta"],
        damaged=bool(found.get("error")),
        proved=notes.get(PROVED, ""),
        refuted=notes.get(REFUTED, ""),
        doubted=notes.get(DOUBTED, ""),
        tables=_number(notes.get(TABLES)),
        rows=_number(notes.get(ROWS)),
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
