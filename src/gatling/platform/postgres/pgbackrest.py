"""The configuration of pgBackRest, and its report about backups. Pure.

pgBackRest keeps what Gatling found out about a backup as annotations of that backup, so that a
repository says by itself which of its backups are proved.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

from gatling.errors import GatlingError

PROVED, REFUTED, DOUBTED = "proved", "refuted", "doubted"
"""Annotations: the time of a successful proof, the reason of a failed one, and the reason why a
proof could not be completed."""
TABLES, ROWS = "tables", "rows"
"""Annotations: the numbers of tables and rows that a proof compared."""
MAX_NOTE = 200
"""Characters of an annotation."""
USABLE = (0, 1, 2)
"""Codes of a stanza's status: with backups, without a path yet, and without a backup yet."""
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


def is_of(name: str, label: str) -> bool:
    """Whether a stanza is that of a cluster, by its database and generation."""
    found = _STANZA.fullmatch(name)
    return found is not None and f"{found['database']}.{found['generation']}" == label


def configuration(name: str, data: str, sockets: str, repository: str) -> str:
    """pgbackrest.conf for one cluster."""
    return f"""\
# Written by Gatling.
[global]
repo1-path={repository}
lock-path={repository}/.lock
spool-path={repository}/.spool
log-level-console=warn
log-level-file=off
compress-type=lz4
start-fast=y
# Gatling removes old backups once a newer one is proved
expire-auto=n
repo1-retention-full=9999999
# a log that cannot be archived is reported soon, and the disk does not fill
archive-timeout=60

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
    for stanza in json.loads(report):
        named = _STANZA.fullmatch(stanza["name"])
        if named is None or database not in ("", named["database"]):
            continue
        status = stanza["status"]
        if status["code"] not in USABLE:
            raise GatlingError(f"The repository of backups cannot be used: {status['message']}.")
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
