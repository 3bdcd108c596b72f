"""A copy of a running cluster by copy-on-write: the files share their blocks with the originals.

It takes as long as it takes to name the files, and no room until one of the two changes a block.
XFS, btrfs and bcachefs can do it, ext4 cannot. PostgreSQL's low-level API of a base backup makes
the copy consistent: a block that was being written is in the log that comes with it.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.postgres.session import Session

FICLONE = 0x40049409
"""ioctl_ficlone(2): share all blocks of another file."""
EMPTY = frozenset({
    "pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp",
    "pg_subtrans", "pg_wal",
})  # fmt: skip
"""Directories whose files a base backup leaves out."""
_LEFT_OUT = re.compile(
    r"postmaster\.(pid|opts)|pgsql_tmp.*|pg_internal\.init.*|backup_label.*|tablespace_map.*"
    r"|backup_manifest.*|current_logfiles.*|.*\.tmp|\..*"
)
STEP_SECONDS = 600.0
SLOT = """\
SELECT count(*) FROM pg_create_physical_replication_slot('gatling_fork_{number}', true, true);
"""
"""The log from here on stays until this session ends."""
BEGIN = "SELECT pg_walfile_name(lsn) FROM pg_backup_start('gatling fork', true) lsn;\n"
END = """\
SELECT pg_walfile_name(lsn) || ' ' || encode(convert_to(labelfile, 'UTF8'), 'hex')
  FROM pg_backup_stop(false);
"""


def possible(data: Path, beside: Path) -> bool:
    """Whether files of a directory can be cloned into another directory, which is tried."""
    if any((data / "pg_tblspc").iterdir()):
        return False
    trial = beside / ".clone"
    try:
        _clone(data / "PG_VERSION", trial)
    except OSError:
        return False
    finally:
        trial.unlink(missing_ok=True)
    return True


def cluster(superuser: Session, data: Path, copy: Path) -> None:
    """Clone the files of a running cluster into an empty directory.

    Raises CommandFailed and OSError. The next start of the copy replays the log.
    """
    superuser.ask(SLOT.format(number=os.urandom(8).hex()), STEP_SECONDS)
    first = superuser.ask(BEGIN, STEP_SECONDS)[-1]
    for directory in _tree(data, copy):
        directory.mkdir(mode=0o700)
    last, label = superuser.ask(END, STEP_SECONDS)[-1].split(" ")
    for segment in sorted((data / "pg_wal").iterdir()):
        needed = first[8:] <= segment.name[8:] <= last[8:] and len(segment.name) == len(first)
        # a cluster that was restored is on a later timeline, whose history base backups send
        if needed or segment.suffix == ".history":
            _clone(segment, copy / "pg_wal" / segment.name)
    files.write(copy / "backup_label", bytes.fromhex(label).decode())
    os.sync()  # PostgreSQL only writes out the files that it changes


def _tree(data: Path, copy: Path) -> Iterator[Path]:
    """Clone all files that belong to a base backup; each directory, before it is filled."""
    for place, directories, names in os.walk(data):
        within = Path(place).relative_to(data)
        if within != Path():
            yield copy / within
        if within.parts[:1] and within.parts[0] in EMPTY:
            if within.parts[0] != "pg_wal":
                directories.clear()
            continue
        directories[:] = [name for name in directories if not _LEFT_OUT.fullmatch(name)]
        for name in names:
            if not _LEFT_OUT.fullmatch(name):
                try:
                    _clone(Path(place) / name, copy / within / name)
                except FileNotFoundError:  # of a table that was removed
                    (copy / within / name).unlink(missing_ok=True)


def _clone(source: Path, target: Path) -> None:
    with source.open("rb") as original:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            fcntl.ioctl(descriptor, FICLONE, original.fileno())
        finally:
            os.close(descriptor)
