"""PostgreSQL clusters of apps: postgresql-common makes them, and the user postgres runs them.

Programs of PostgreSQL run as postgres. A cluster is only ever removed as a whole when it is still
being made (a file says so), when it is a fork (another file says so), or when its database is
removed and a copy was kept and read.
"""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from gatling import files, names, times
from gatling.errors import InvalidInput
from gatling.platform.postgres import points, settings, sql
from gatling.platform.postgres.clusters import (
    ACCESS,
    PORT,
    READER,
    SUPERUSER,
    Cluster,
    Facts,
)
from gatling.platform.postgres.sites import archive
from gatling.platform.server import cluster_units as places
from gatling.platform.server import units
from gatling.platform.server.helper import database_packages as packages
from gatling.platform.server.helper import unit_files
from gatling.platform.server.helper.shapes import Refused, text

UNITS = Path("/etc/systemd/system")
TMPFILES = Path("/etc/tmpfiles.d")
ADOPTED = {
    "postgresql.conf": "include_dir = 'conf.d'\n", "pg_hba.conf": "", "pg_ident.conf": "",
}  # fmt: skip
"""Files that pg_createcluster needs in a data directory that it did not make; `configure` writes
the settings."""
WITHOUT_RELOADS = ["env", f"PG_CLUSTER_CONF_ROOT={places.CONFIGURATIONS}"]
"""Before pg_createcluster(1) and pg_dropcluster(1): if the directory of configurations is given,
even the usual one, they leave systemd and apt alone. Otherwise the former has systemd
reload all units, and the latter five times."""
APT_KEEPS = Path("/etc/apt/apt.conf.d/02autoremove-postgresql")
UPDATE_APT = Path("/usr/share/postgresql-common/pg_updateaptconfig")
"""The program that writes APT_KEEPS: the versions whose packages `apt autoremove` leaves."""
START_SECONDS = 60.0
MAX_APPS = 64
VOLUME_LOCK = ".volume.lock"
Call = Callable[..., object]


def create(request: dict[str, Any], apps: Path, call: Call) -> dict[str, Any]:
    """Create a cluster with its database, or complete what was begun."""
    cluster, allowed = requested(request), allowed_users(request, apps)
    program = places.PROGRAMS / str(cluster.version) / "bin" / "postgres"
    if not program.exists() or not shutil.which("pg_createcluster"):
        raise InvalidInput(f"PostgreSQL {cluster.version} is not installed on this server.")
    packages.tidy()  # the helper that waited for an installation may have been killed
    with alone(cluster.database) as directory:
        begun = making(cluster)
        if begun.exists():  # nobody has had access to it
            drop(cluster, call)
        restored = places.restored(cluster)
        if not places.data(cluster).is_dir():  # of a restore that failed
            restored.unlink(missing_ok=True)
        if restored.exists():
            _adopt(cluster, call)
        elif not places.configuration(cluster).is_dir():
            places.forked(cluster).unlink(missing_ok=True)
            need_room(places.CLUSTERS, settings.LEAST_BYTES, "A database")
            files.write(begun, "")
            drop(cluster, call)
            _pg_createcluster(cluster, call, *settings.LOCALE, "--", "--data-checksums")
            os.sync()
            begun.unlink()
            files.sync(directory)
        configure(cluster, list(allowed), call)
        start = places.configuration(cluster) / "start.conf"
        if start.read_text().strip() != places.AUTO:  # of a cluster that another one was used for
            write_as(pwd.getpwnam(places.OWNER), start, f"{places.AUTO}\n", 0o644)
        call(["systemctl", "start", places.unit(cluster)], timeout=300)
        wait(cluster)
        restored.unlink(missing_ok=True)
        files.sync(directory)
        query(cluster, sql.setup(cluster.database) + sql.access(cluster.database, allowed))
    return {}


def begin_restore(cluster: Cluster, call: Call) -> None:
    """Note that a cluster is being restored, and remove what a killed restore has left.

    Raises InvalidInput for a cluster that is there, which stays as it is.
    """
    there = places.configuration(cluster).is_dir() or places.data(cluster).is_dir()
    if there and not is_incomplete(cluster):
        raise InvalidInput(f"The database {cluster.database} is there already.")
    files.write(places.restored(cluster), "")
    places.forked(cluster).unlink(missing_ok=True)
    drop(cluster, call)
    making(cluster).unlink(missing_ok=True)


def end_restore(cluster: Cluster, call: Call) -> None:
    """Remove what a restore has left that did not succeed."""
    if places.data(cluster).is_dir() or not places.restored(cluster).exists():
        return
    drop(cluster, call)
    places.restored(cluster).unlink(missing_ok=True)


def _adopt(cluster: Cluster, call: Call) -> None:
    """Make a cluster of a data directory that was restored, also after a first attempt."""
    call(["systemctl", "stop", places.unit(cluster)], timeout=300, check=False)
    shutil.rmtree(places.configuration(cluster), ignore_errors=True)
    owner = pwd.getpwnam(places.OWNER)
    # pg_createcluster moves them; a backup does not have those of Debian's clusters
    for name, wanted in ADOPTED.items():
        write_as(owner, places.data(cluster) / name, wanted, 0o600)
    _pg_createcluster(cluster, call)
    subprocess.run(
        ["/bin/mkdir", "-p", str(places.configuration(cluster) / "conf.d")],
        check=True, capture_output=True, **as_postgres(),
    )  # fmt: skip
    os.sync()


def _pg_createcluster(cluster: Cluster, call: Call, *words: str) -> None:
    """Run pg_createcluster(1); `configure` has systemd load the change."""
    unit_files.change()
    call([*WITHOUT_RELOADS, "pg_createcluster", str(cluster.version), cluster.name,
          "--port", str(PORT), "--socketdir", str(places.sockets(cluster)),
          "--start-conf", places.AUTO, *words], timeout=300)  # fmt: skip
    _keep_packages(cluster.version, call)


def _pg_dropcluster(cluster: Cluster, call: Call) -> None:
    """Run pg_dropcluster(1); whatever writes unit files next has systemd load the change."""
    unit_files.change()
    # an administrator may have enabled units of it: pg_dropcluster disables them
    enabled = any(UNITS.glob(f"*.wants/*@{cluster.version}-{cluster.name}.*"))
    without = [] if enabled else WITHOUT_RELOADS
    call([*without, "pg_dropcluster", "--stop", str(cluster.version), cluster.name], timeout=300,
         check=False)  # fmt: skip
    _keep_packages(cluster.version, call)


def _keep_packages(version: int, call: Call) -> None:
    """Have apt keep the packages of all versions that have clusters, and no others."""
    used = any(places.CONFIGURATIONS.glob(f"{version}/*/postgresql.conf"))
    listed = APT_KEEPS.exists() and f'-{version}"' in APT_KEEPS.read_text()
    if used != listed and UPDATE_APT.exists():
        call([str(UPDATE_APT)], check=False)


def making(cluster: Cluster) -> Path:
    """root's note that a cluster is being created, or removed."""
    return places.DATABASES / f"making-{cluster.version}-{cluster.label}"


def is_incomplete(cluster: Cluster) -> bool:
    """Whether root has noted that no app has had access to a cluster, or that it may go."""
    return making(cluster).exists() or places.restored(cluster).exists()


def access(request: dict[str, Any], apps: Path, call: Call) -> dict[str, Any]:
    """Let these apps use a database, and no others."""
    cluster, allowed = requested(request), allowed_users(request, apps)
    with alone(cluster.database):
        must_exist(cluster)
        configure(cluster, list(allowed), call)
        call(["systemctl", "start", places.unit(cluster)], timeout=300)
        wait(cluster, sql.access(cluster.database, allowed))
    return {}


def facts(request: dict[str, Any]) -> dict[str, Any]:
    """The state of a cluster."""
    cluster = requested(request)
    must_exist(cluster)
    return asdict(read_facts(cluster))


def read_facts(cluster: Cluster) -> Facts:
    """The state of a running cluster."""
    found = json.loads(query(cluster, sql.facts(cluster.database)))
    dead = json.loads(query(cluster, sql.DEAD, cluster.database))
    free = shutil.disk_usage(places.data(cluster)).free
    return Facts(**found, **dead, free_bytes=free)


def point(request: dict[str, Any]) -> dict[str, Any]:
    """Make a restore point in the log of a cluster, by one of the names that Gatling gives."""
    cluster, name = requested(request), text(request, "name")
    if not points.NAME.fullmatch(name):
        raise Refused("name is not that of a restore point")
    must_exist(cluster)
    said = query(cluster, points.create(name), seconds=points.SECONDS)
    return asdict(points.place(cluster.label, said))


def query(
    cluster: Cluster, script: str, database: str = SUPERUSER, *, seconds: float | None = None
) -> str:
    """Run a script of SQL as the superuser; its output."""
    argv = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1",
            "--host", str(places.sockets(cluster)), "--port", str(PORT),
            "--username", SUPERUSER, "--dbname", database]  # fmt: skip
    script = f"SET search_path = '';\n{script}"
    return run(cluster, "psql", *argv, stdin=script, seconds=seconds).decode()


def run(
    cluster: Cluster, program: str, *words: str, stdin: str = "", stdout: IO[bytes] | None = None,
    seconds: float | None = None,
) -> bytes:  # fmt: skip
    """Run one of PostgreSQL's programs as postgres; its output, unless it goes to a file."""
    done = subprocess.run(
        [str(places.PROGRAMS / str(cluster.version) / "bin" / program), *words],
        input=stdin.encode(), stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE, check=True,
        timeout=seconds, **as_postgres(),
    )  # fmt: skip
    return done.stdout or b""


def as_postgres() -> dict[str, Any]:
    """The arguments of subprocess with which a program runs as postgres."""
    user = pwd.getpwnam(places.OWNER)
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGCONNECT_TIMEOUT": "10"}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/", "env": env}


def configure(cluster: Cluster, users: list[str], call: Call) -> None:
    """Write the settings, the drop-in and the sockets' directory of a cluster."""
    directory, owner = places.configuration(cluster), pwd.getpwnam(places.OWNER)
    conf = settings.configuration(
        str(places.sockets(cluster)), settings.machine_memory(),
        str(archive(str(places.own(cluster)))), places.pid_file(cluster),
    )  # fmt: skip
    own = {
        directory / "conf.d" / "gatling.conf": (conf, 0o644),
        directory / "pg_ident.conf": (settings.identities(READER, places.OWNER, [READER]), 0o640),
    }
    for file, (wanted, mode) in own.items():
        if not file.exists() or file.read_text() != wanted:
            write_as(owner, file, wanted, mode)
    authenticate(cluster)
    temporary = TMPFILES / f"gatling-database-{cluster.database}.conf"
    files.write(temporary, places.temporary_files(cluster, users), mode=0o644)
    call(["systemd-tmpfiles", "--create", str(temporary)])
    with unit_files.writing(call) as written:
        written.write(UNITS / f"{places.unit(cluster)}.d" / "gatling.conf", places.drop_in())


def authenticate(cluster: Cluster) -> None:
    """Write pg_hba.conf of a cluster."""
    file = places.configuration(cluster) / "pg_hba.conf"
    wanted = settings.authentication(cluster.database)
    if not file.exists() or file.read_text() != wanted:
        write_as(pwd.getpwnam(places.OWNER), file, wanted, 0o640)


def write_as(owner: pwd.struct_passwd, file: Path, wanted: str, mode: int) -> None:
    """Write a file in a directory of postgres, with no more rights than postgres has."""
    subprocess.run(
        ["/bin/sh", "-c", 'umask 077; cat > "$1.new" && chmod "$2" "$1.new" && mv "$1.new" "$1"',
         "sh", str(file), f"{mode:o}"],
        input=wanted.encode(), check=True, capture_output=True,
        user=owner.pw_uid, group=owner.pw_gid, extra_groups=[], cwd="/",
    )  # fmt: skip


def drop(cluster: Cluster, call: Call) -> None:
    """Remove all files of a cluster, which a file marks as being made or removed."""
    # the restore may be that of a helper that was killed
    units_of_it = [places.restore_unit(cluster), places.unit(cluster)]
    call(["systemctl", "stop", *units_of_it], timeout=300, check=False)
    call(["systemctl", "reset-failed", *units_of_it], check=False)
    if places.configuration(cluster).is_dir():
        _pg_dropcluster(cluster, call)
    # of one that was killed
    own = (places.data(cluster), places.configuration(cluster))
    for left in (*own, *places.unfinished(cluster)):
        shutil.rmtree(left, ignore_errors=True)


def wait(cluster: Cluster, script: str = "SELECT 1;\n") -> str:
    """Run a script in a cluster that was started, once it takes queries; its output."""
    for last in times.looks(START_SECONDS, 0.1):
        try:
            return query(cluster, script)
        except subprocess.CalledProcessError as error:
            if last or error.returncode != sql.NOT_CONNECTED:
                raise
    raise AssertionError  # the last look has returned or raised


def requested(request: dict[str, Any]) -> Cluster:
    """The cluster that a request names; raises Refused and InvalidInput."""
    numbers = [request.get("version"), request.get("generation")]
    if not all(type(number) is int for number in numbers):
        raise Refused("version and generation are not numbers")
    return Cluster(names.app_name(text(request, "database")), *numbers)  # type: ignore[arg-type]


def allowed_users(request: dict[str, Any], apps: Path) -> dict[str, str]:
    """The OS users of the apps that may use a database, with what they may do."""
    given = request.get("apps")
    if not isinstance(given, dict) or len(given) > MAX_APPS:
        raise Refused("apps is not a short list")
    for app, kind in given.items():
        if kind not in ACCESS or not (apps / names.app_name(str(app))).is_dir():
            raise Refused("apps: an app that is there, and write or read")
    return {units.user(app): kind for app, kind in given.items()}


def must_exist(cluster: Cluster) -> None:
    """Raise InvalidInput for a cluster that is not there."""
    if not places.configuration(cluster).is_dir():
        raise InvalidInput(f"The database {cluster.database} is not on this server.")


def need_room(directory: Path, least: int, what: str) -> None:
    """Raise InvalidInput on a disk that has not so many bytes, and some for others."""
    free = shutil.disk_usage(directory).free
    wanted = least + files.RESERVE_BYTES
    if free < wanted:
        raise InvalidInput(
            f"{what} needs {wanted >> 20} MB: {free >> 20} MB are free on the disk of {directory}.",
            hint="Free some space.",
        )


@contextlib.contextmanager
def alone(database: str) -> Iterator[Path]:
    """One request at a time for a database; the directory of root's notes."""
    owner = pwd.getpwnam(units.OWNER)
    places.DATABASES.mkdir(mode=0o750, exist_ok=True)
    os.chown(places.DATABASES, 0, owner.pw_gid)
    with (
        files.locked(places.DATABASES / VOLUME_LOCK, shared=True),
        files.locked(places.DATABASES / f".{database}.lock"),
    ):
        yield places.DATABASES


@contextlib.contextmanager
def nothing_created() -> Iterator[None]:
    """Keep all requests for databases waiting, while their files move to another file system."""
    places.DATABASES.mkdir(mode=0o750, exist_ok=True)
    with files.locked(places.DATABASES / VOLUME_LOCK):
        yield
