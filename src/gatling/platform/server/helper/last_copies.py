"""Last copies of databases that are removed, and the removal of their clusters."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, cast

from gatling import files
from gatling.cleanup import finally_
from gatling.errors import InvalidInput
from gatling.platform.postgres import dump, sql
from gatling.platform.postgres.clusters import PORT, SUPERUSER, Cluster, Kept
from gatling.platform.server import cluster_units as places
from gatling.platform.server.helper import databases, unit_files, upgrades
from gatling.platform.server.helper.databases import Call
from gatling.platform.server.helper.shapes import Refused, text

STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")


def keep(request: dict[str, Any]) -> dict[str, Any]:
    """Write a last copy of a database, and compare it with the database. No app may have access."""
    cluster, stamp = databases.requested(request), _stamp(request)
    databases.must_exist(cluster)
    with databases.alone(cluster.database) as directory:
        return _keep(cluster, directory, f"{cluster.database}-{stamp}.dump")


def keep_former(request: dict[str, Any], call: Call) -> dict[str, Any]:
    """Do so for a cluster that is stopped, because another one of its database is used."""
    cluster, stamp = databases.requested(request), _stamp(request)
    databases.must_exist(cluster)
    if not (places.PROGRAMS / str(cluster.version) / "bin" / "postgres").exists():
        raise InvalidInput(
            f"No copy of the cluster of {cluster.database} with PostgreSQL {cluster.version} can be"
            " made: that version is not installed any more.",
            hint=f"Install postgresql-{cluster.version}, or remove the cluster as root:"
            f" `pg_dropcluster {cluster.version} {cluster.name}`.",
        )
    with (
        databases.alone(cluster.database) as directory,
        finally_(lambda: upgrades.stop(cluster, call)),
    ):
        databases.configure(cluster, [], call)
        upgrades.start(cluster, call)
        return _keep(cluster, directory, f"{cluster.label}-{stamp}.dump")


def remove(request: dict[str, Any], call: Call) -> dict[str, Any]:
    """Remove a cluster, of which a last copy was kept, or what is left of it.

    The remains of killed upgrades and restores of its database are removed as well.
    """
    cluster, copy = databases.requested(request), Path(text(request, "kept")).name
    with databases.alone(cluster.database) as directory:
        may_go = databases.is_incomplete(cluster) or places.forked(cluster).exists()
        if places.data(cluster).is_dir() and not may_go:
            # that of the database, or of this cluster: not that of shop-restored for shop
            own = rf"{cluster.database}(\.{cluster.generation})?-{STAMP.pattern}\.dump"
            if not re.fullmatch(own, copy) or not (directory / copy).is_file():
                raise Refused("no last copy of it was kept")
        for one in dict.fromkeys([cluster, *_incomplete(cluster.database)]):
            _remove(one, call)
        file = databases.TMPFILES / f"gatling-database-{cluster.database}.conf"
        file.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (places.SOCKETS / cluster.database).unlink()
    return {}


def _remove(cluster: Cluster, call: Call) -> None:
    call(["systemctl", "stop", places.unit(cluster)], timeout=300, check=False)
    files.write(databases.making(cluster), "")
    databases.drop(cluster, call)
    shutil.rmtree(places.sockets(cluster), ignore_errors=True)
    with unit_files.writing(call) as written:
        written.remove(databases.UNITS / f"{places.unit(cluster)}.d")
    for note in (places.restored(cluster), places.forked(cluster), databases.making(cluster)):
        note.unlink(missing_ok=True)


def _incomplete(database: str) -> list[Cluster]:
    """The clusters of a database to which no app has had access."""
    note = re.compile(rf"(?:making|restoring)-([0-9]+)-{re.escape(database)}\.([0-9]+)")
    found = (note.fullmatch(file.name) for file in places.DATABASES.iterdir())
    return [Cluster(database, int(one[1]), int(one[2])) for one in found if one]


def _stamp(request: dict[str, Any]) -> str:
    stamp = text(request, "stamp")
    if not STAMP.fullmatch(stamp):
        raise Refused("stamp is not a time")
    return stamp


def _keep(cluster: Cluster, directory: Path, name: str) -> dict[str, Any]:
    found = databases.read_facts(cluster)
    databases.need_room(directory, found.bytes, "The last copy of the database")
    final, new = directory / name, directory / f".{cluster.database}.new"
    bound = ["--host", str(places.sockets(cluster)), "--port", str(PORT)]
    with new.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        databases.run(cluster, "pg_dump", "--format=custom", *bound, "--username", SUPERUSER,
                      cluster.database, stdout=file)  # fmt: skip
        os.fsync(file.fileno())
    tables = json.loads(databases.query(cluster, sql.TABLES, cluster.database))
    numbers = databases.query(cluster, sql.counts(tables), cluster.database).split()
    expected = dict(zip(tables, map(int, numbers), strict=True))
    if wrong := dump.difference(expected, _rows(cluster, new)):
        new.unlink()
        raise InvalidInput(f"The copy of {cluster.database} is not complete: {wrong}.")
    new.rename(final)
    files.sync(directory)
    return asdict(Kept(str(final), final.stat().st_size, len(tables), sum(expected.values())))


def _rows(cluster: Cluster, copy: Path) -> dict[str, int]:
    program = places.PROGRAMS / str(cluster.version) / "bin" / "pg_restore"
    with copy.open("rb") as file:
        reading = subprocess.Popen(
            [str(program), "--data-only", "--file=-"], stdin=file, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, **databases.as_postgres(),
        )  # fmt: skip
        with reading:
            found = dump.rows(cast("IO[bytes]", reading.stdout))
    if reading.returncode != 0:
        raise InvalidInput(f"The copy of {cluster.database} cannot be read.")
    return found
