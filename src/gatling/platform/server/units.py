"""The units of a server home as text and properties: pure, and root's word only.

systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.resource-control(5). The differences
between apps (user, visible and writable paths, limits) are in drop-ins; programs and environments
come as credentials (enter.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform import users
from gatling.platform.server import firewall

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatling.platform.limits import Limits

OWNER = "gatling"
"""The OS user of Gatling itself."""
RUN = "/run/gatling"
"""root's: the socket of the helper, and the credentials of programs that are run once."""

INSTANCES = "/run/gatling-instances"
"""The directory of instances' records of their starts and ends. Only Gatling and root can enter it.
Each instance has its own subdirectory mounted."""
PLACEHOLDER = "_gatling"
"""The OS user that the units of instances name until a drop-in names the app's; nothing is its."""
FENCE = "gatling-ports.service"
"""Loads the table that keeps the ports of apps to themselves (firewall.py)."""
RECORD_END = 'echo "$$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS" > "$$RUNTIME_DIRECTORY/end"'
"""The shell command that records the end of an instance; $$ is $ in a unit."""
APP_PORTS = "20000-29999"
"""The ports that are drawn for apps: no app may bind one of another."""

ATTENDING = (
    "KillMode=mixed",
    "NoNewPrivileges=yes",
    "PrivateTmp=yes",
    "ProtectHome=yes",
    "MemoryMax=50%",
    "TasksMax=1024",
    "OOMScoreAdjust=300",
)
"""For Gatling itself where it attends to a push or a job: what a hostile answer makes it take is
taken from no app. Builds and programs of apps have units, and limits, of their own."""
SESSIONS = ("MemoryMax=50%", "TasksMax=2048")
"""For all that comes over SSH, together."""

NO_MANAGER = ""
"""The unit of the user manager of `gatling`, which an empty file masks: systemd.unit(5).

Nothing needs a user manager. Without the mask, systemd starts one for each SSH command, which waits
for it, and eight lines are logged."""

KEPT_DIRECTORY = """\
# Written by Gatling. Otherwise each SSH command mounts it, and unmounts it at its end.
[Unit]
StopWhenUnneeded=no
"""
"""The drop-in of the unit that mounts /run/user/UID of `gatling`: it stays once it is mounted.

Only a user manager would need it. Each mount makes systemd read its list of mounts again, and each
SSH command took 20 ms of processor time for it.
"""

HARDENED = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "PrivateUsers=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "LockPersonality=yes",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "SystemCallFilter=@chown",  # of one's own files to oneself: cp -p, tar, npm
    "SystemCallErrorNumber=EPERM",
    "KeyringMode=private",
    "LimitCORE=0",
    "UMask=0022",
)
"""For everything that runs an app's code. The BEAM compiles to machine code at run time, so memory
that is written and executed must be allowed."""


def limit_properties(limits: Limits) -> list[str]:
    """The limits of a program as properties of its unit."""
    found = []
    if limits.memory:
        found += [f"MemoryMax={limits.memory}", "MemorySwapMax=0"]
    if limits.tasks:
        found.append(f"TasksMax={limits.tasks}")
    if limits.cpu:
        found.append(f"CPUQuota={limits.cpu}")
    return found


def user(app: str) -> str:
    """The OS user of an app."""
    return users.of_app(app)


def instance(app: str, slot: int | str) -> str:
    """The unit of a slot, which is 1 or 2, or a process's, `worker.1`."""
    return f"gatling@{app}.{slot}.service"


def task(app: str, kind: str, name: str) -> str:
    """The unit of a program that is run once; app names have no dots."""
    return f"gatling-{kind}-{app}.{name}.service"


def tasks(app: str) -> list[str]:
    """Patterns of the units of all such programs of an app that are part of a deployment."""
    return [f"gatling-{kind}-{app}.*.service" for kind in ("build", "release")]


def view(app: Path, *, writable: Sequence[str], readable: Sequence[str]) -> list[str]:
    """Let a unit see these directories of its app, and nothing else of what is Gatling's."""
    root = app.parents[1]
    return [
        # /dev/shm too: PrivateDevices= leaves it the host's, with what all others put there
        f"TemporaryFileSystem={root}:ro,mode=755 /dev/shm:mode=1777,nosuid,nodev",
        *(f"BindPaths={app / name}" for name in writable),
        *(f"BindReadOnlyPaths=-{app / name}" for name in readable),
        # D-Bus: through logind a process could start its own user manager, without a sandbox.
        # /run/lock: anybody's; what systemd 252 makes read-only below /run depends on other mounts
        f"InaccessiblePaths=-{RUN} -/run/dbus -/run/lock",
    ]


def task_properties(app: str, directory: Path, kind: str, limits: Limits) -> list[str]:
    """The properties of a program that is run once: a `build`, or code of a release."""
    if kind == "build":
        seen = view(directory, writable=("build", "work"), readable=("git", "releases"))
    else:
        seen = view(directory, writable=("work", "state"), readable=("releases", "build/cache"))
    return [*_identity(app), "TimeoutStopSec=5", "KillMode=mixed", *HARDENED, *seen,
            *limit_properties(limits), *binding(())]  # fmt: skip


def binding(ports: Sequence[int]) -> list[str]:
    """Of the ports that are drawn for apps let a unit bind these alone, and no epmd at all.

    Only a kernel with control groups of version 2, and a systemd with BPF, heed it.
    """
    return [
        *(f"SocketBindAllow=tcp:{port}" for port in ports),
        f"SocketBindDeny=tcp:{APP_PORTS}",
        f"SocketBindDeny=tcp:{firewall.EPMD}",
    ]


def drop_in(
    app: str,
    directory: Path,
    limits: Limits,
    stop_seconds: float,
    ports: Sequence[int] | None = None,
) -> str:
    """The drop-in of an app's units; it restricts no ports when they are not known."""
    lines = [
        *_identity(app),
        f"TimeoutStopSec={stop_seconds:g}",
        *view(directory, writable=("state",), readable=("releases", "work")),
        *limit_properties(limits),
        *_said(limits),
        *(binding(ports) if ports is not None else ()),
    ]
    return "# Written by Gatling.\n[Service]\n" + "\n".join(lines) + "\n"


def _identity(app: str) -> list[str]:
    """The user of a unit, and the journal that gets its lines (namespaces.py)."""
    return [f"{key}={user(app)}" for key in ("User", "Group", "LogNamespace")]


def _said(limits: Limits) -> list[str]:
    """The launcher's settings for these limits; % begins a specifier in a unit."""
    escaped = limits.memory.replace("%", "%%")
    return [f"Environment=MEMORY_LIMIT={escaped}"] if escaped else []


def template(server: Path, launcher: Path) -> str:
    """gatling@.service: an instance of an app, `gatling@APP.SLOT.service`."""
    hardened = "\n".join(HARDENED)
    return f"""\
# Written by Gatling. A drop-in for each app says whose user and which directories are meant.
[Unit]
Description=Gatling app %i
Documentation=man:systemd.service(5)
After=network.target {FENCE} gatling-recover.service
ConditionPathExists={server}/instances/%i.json
AssertPathExists=/etc/systemd/system/gatling@%i.service.d/app.conf
# as often as it takes; the launcher makes the pauses
StartLimitIntervalSec=0

[Service]
# The drop-in names the app's user. Without it nothing of an app's may be root's, or run at all.
User={PLACEHOLDER}
InaccessiblePaths=-{RUN} -/run/dbus -/run/lock
Type=exec
ExecStart=/usr/bin/python3 -I -S {launcher}
# what it has ended with, for the launcher to say when it is started again
ExecStopPost=-/bin/sh -c '{RECORD_END}'
LoadCredential=program:{server}/instances/%i.json
RuntimeDirectory={INSTANCES.removeprefix("/run/")}/%i
RuntimeDirectoryPreserve=restart
TemporaryFileSystem={INSTANCES}:ro,mode=755
BindPaths={INSTANCES}/%i
Restart=always
RestartSec=1
KillMode=mixed
OOMPolicy=kill
LimitNOFILE=65536
TasksMax=8192
{hardened}

[Install]
WantedBy=multi-user.target
"""


def temporary_files() -> str:
    """tmpfiles.d(5): the directory of what instances note, closed to all but Gatling and root."""
    return f"# Written by Gatling.\nd {INSTANCES} 0750 root {OWNER} -\n"


def session_slice() -> str:
    """The drop-in of the slice in which logind puts what comes over SSH as gatling."""
    lines = "\n".join(SESSIONS)
    return (
        f"# Written by Gatling. For all commands and pushes over SSH together.\n[Slice]\n{lines}\n"
    )


def fence_service(rules: Path) -> str:
    """gatling-ports.service: at boot, before any instance starts.

    A restart or reload of nftables also flushes this table, so the unit then runs again.
    """
    return f"""\
# Written by Gatling. Keeps the ports of apps to the proxy, to Gatling and to the apps themselves.
[Unit]
Description=Gatling: the ports of apps are closed to others
Documentation=man:nft(8)
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service
ConditionPathExists={rules}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {rules}
ExecReload=/usr/sbin/nft -f {rules}
ExecStop=-/usr/sbin/nft delete table inet {firewall.TABLE}
CapabilityBoundingSet=CAP_NET_ADMIN
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target nftables.service
"""


def helper_socket() -> str:
    """gatling-helper.socket: how Gatling asks for the few things that only root can do."""
    return _socket("helper", "")


def logs_socket(connections: int) -> str:
    """gatling-logs.socket: one more, for those who read logs, so that deployments go on then."""
    return _socket("logs", f"Accept=yes\nMaxConnections={connections}\n")


def _socket(name: str, more: str) -> str:
    return f"""\
# Written by Gatling. Nothing runs until Gatling asks; its user alone can.
[Unit]
Description=Gatling: the fixed list of what it may ask of root

[Socket]
ListenStream={RUN}/{name}.sock
SocketUser={OWNER}
SocketMode=0600
DirectoryMode=0755
{more}RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""


HELPER_CPU_SECONDS = 900
"""Processor time of a request to root's helper. Requests may last for days, but they wait then."""


def helper_service(helper: Path) -> str:
    """gatling-helper.service: answers requests, each in a process of its own.

    KillMode is `process`, so that those under way go on when a newer version takes its place. The
    limit of processor time is one of each process: setrlimit(2).
    """
    return _asked(str(helper), f"KillMode=process\nLimitCPU={HELPER_CPU_SECONDS}\n")


def logs_service(helper: Path) -> str:
    """gatling-logs@.service: one reader of logs, without a limit of processor time."""
    return _asked(f"{helper} logs", "StandardInput=socket\n")


def _asked(program: str, more: str) -> str:
    return f"""\
# Written by Gatling.
[Unit]
Description=Gatling: requests to root
CollectMode=inactive-or-failed

[Service]
ExecStart=/usr/bin/python3 -I -S {program}
StandardOutput=journal
StandardError=journal
Environment=LANG=C.UTF-8
ProtectHome=yes
PrivateTmp=yes
ProtectKernelModules=yes
NoNewPrivileges=yes
{more}TimeoutStopSec=10
"""
