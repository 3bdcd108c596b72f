"""The unit, the sockets and the files of a server's PostgreSQL clusters, as text: pure.

postgresql-common makes the clusters and has their unit, postgresql@VERSION-CLUSTER.service. Gatling
adds a drop-in to it: limits, and what a server that runs an app's SQL does not need.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gatling.paths import SERVER
from gatling.platform.postgres.sites import Site
from gatling.platform.server import units

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatling.platform.postgres.clusters import Cluster

SOCKETS = Path("/run/gatling-databases")
"""A directory for the sockets of each cluster, and by a database's name a link to the one in use.
An app's unit can see them: access is by the directories' rights."""
DATABASES = SERVER / "databases"
"""root's: which clusters are being made, and the last copies of removed databases."""
CLUSTERS = Path("/var/lib/postgresql")
CONFIGURATIONS = Path("/etc/postgresql")
BACKUPS = Path("/var/lib/gatling-backups")
"""The repository of all backups, which is postgres' own: a disk of its own can be mounted there."""
REPOSITORY = Path("/etc/gatling-backups/repository.json")
"""The repository on another machine, if there is one: root's, and postgres can read it."""
PROOFS = CLUSTERS / ".gatling-proof"
"""Throw-away clusters, into which backups are restored."""
PROGRAMS = Path("/usr/lib/postgresql")
OWNER = "postgres"
"""The OS user that Debian's packages run clusters as."""
AUTO, MANUAL = "auto", "manual"
"""Whether a cluster is started at boot: pg_createcluster(1), start.conf."""
UNITS = "postgresql@*-gatling.*.service"


def unit(cluster: Cluster) -> str:
    """The unit of a cluster."""
    return f"postgresql@{cluster.version}-{cluster.name}.service"


def data(cluster: Cluster) -> Path:
    """The directory of a cluster's data."""
    return CLUSTERS / str(cluster.version) / cluster.name


def configuration(cluster: Cluster) -> Path:
    """The directory of a cluster's configuration."""
    return CONFIGURATIONS / str(cluster.version) / cluster.name


def sockets(cluster: Cluster) -> Path:
    """The directory of a cluster's socket."""
    return SOCKETS / cluster.label


def pid_file(cluster: Cluster) -> str:
    """The file by which systemd knows a cluster's main process: postgresql@.service names it."""
    return f"/run/postgresql/{cluster.version}-{cluster.name}.pid"


def own(cluster: Cluster) -> Path:
    """The directory of the files that make a cluster archive its log."""
    return configuration(cluster) / "backup"


def site(cluster: Cluster) -> Site:
    """A cluster, and the places of its backups."""
    return Site(
        cluster.database, cluster.label, str(PROGRAMS / str(cluster.version) / "bin"),
        str(data(cluster)), str(sockets(cluster)), str(own(cluster)), str(BACKUPS), str(REPOSITORY),
        str(PROOFS / cluster.label),
    )  # fmt: skip


def restored(cluster: Cluster) -> Path:
    """root's note that a cluster is being restored: no app has had access to it yet."""
    return DATABASES / f"restoring-{cluster.version}-{cluster.label}"


def forked(cluster: Cluster) -> Path:
    """root's note that a cluster is a fork, which may be removed without a last copy."""
    return DATABASES / f"fork-{cluster.version}-{cluster.label}"


def restore_unit(cluster: Cluster) -> str:
    """The unit that restores a backup into a cluster, or forks another one into it."""
    return f"gatling-restore-{cluster.label}.service"


def unfinished(cluster: Cluster) -> list[Path]:
    """The directories that a killed backup or restore leaves beside a cluster's own."""
    return [
        Path(f"{data(cluster)}.new"),
        PROOFS / cluster.label,
        PROOFS / f"{cluster.label}.dump",
        PROOFS / f"{cluster.label}.upgrade",
    ]


def backup_properties(cluster: Cluster) -> list[str]:
    """The properties of a unit that makes and proves a backup; the throw-away cluster is in it."""
    return _sandbox(f"-{BACKUPS} {CLUSTERS} {configuration(cluster)}")


def restore_properties(others: Iterable[Path]) -> list[str]:
    """The properties of a unit that restores a backup; it cannot change the data of others."""
    # the new cluster has no directory of its own yet, and systemd refuses a path that is missing
    protected = " ".join(f"-{path}" for path in others)
    return [*_sandbox(f"-{BACKUPS} {CLUSTERS}"),
            *([f"ReadOnlyPaths={protected}"] if protected else [])]  # fmt: skip


def _is_elsewhere() -> bool:
    """Whether backups are kept on another machine."""
    if not REPOSITORY.exists():
        return False
    from gatling.platform.postgres import repository  # takes a while to load

    return repository.load(str(REPOSITORY)).is_remote


def _sandbox(writable: str) -> list[str]:
    return [
        # another machine is reached over the network
        *([] if _is_elsewhere() else ["PrivateNetwork=yes"]),
        f"User={OWNER}", f"Group={OWNER}", "Nice=10", "CPUWeight=20", "IOWeight=20",
        "MemoryMax=25%", "TasksMax=256", "RuntimeMaxSec=2d", "NoNewPrivileges=yes",
        "PrivateTmp=yes", "PrivateDevices=yes", "ProtectHome=yes",
        "ProtectSystem=strict", f"ReadWritePaths={writable}", "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes", "ProtectControlGroups=yes", "RestrictSUIDSGID=yes",
        f"InaccessiblePaths=-{SERVER} -{units.RUN} -{units.INSTANCES}",
    ]  # fmt: skip


def drop_in() -> str:
    """The drop-in of a cluster's unit."""
    lines = (
        "MemoryMax=50%",
        "TasksMax=1024",
        # one session that takes too much memory is ended, and not the cluster
        "OOMPolicy=continue",
        "NoNewPrivileges=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "ProtectHome=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "ProtectControlGroups=yes",
        "RestrictSUIDSGID=yes",
        f"InaccessiblePaths=-{SERVER} -{units.RUN} -{units.INSTANCES}",
    )
    return "# Written by Gatling.\n[Service]\n" + "\n".join(lines) + "\n"


def temporary_files(cluster: Cluster, users: Iterable[str]) -> str:
    """tmpfiles.d(5): the directory of a cluster's socket, which these users can pass, and its link.

    At boot it is made before any unit starts, and the file with the process id of before is
    removed. After a power cut that may be the id of another cluster by now, for which
    pg_ctlcluster(1) takes any process that has `postgres` in its command line; it would not start
    this one.
    """
    directory = sockets(cluster)
    allowed = ",".join(("user::rwx", "group::---", "other::---", "mask::--x",
                        *(f"user:{user}:--x" for user in sorted(users))))  # fmt: skip
    return (
        "# Written by Gatling.\n"
        f"d {SOCKETS} 0755 root root -\n"
        f"d {directory} 0710 {OWNER} {OWNER} -\n"
        f"a {directory} - - - - {allowed}\n"
        f"L+ {SOCKETS / cluster.database} - - - - {cluster.label}\n"
        f"r! {data(cluster)}/postmaster.pid\n"
    )
