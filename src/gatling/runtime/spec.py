"""What an instance is started with, and what one-off commands of a release are."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

from gatling.errors import NotFound, PortTaken
from gatling.platform import port_claims, ports
from gatling.platform.base import Instance, Task
from gatling.platform.limits import Limits
from gatling.platform.programs import program_path
from gatling.platform.server import units
from gatling.project import processes
from gatling.project import settings as project_settings
from gatling.releases import distillery
from gatling.runtime import node_flags

if TYPE_CHECKING:
    from gatling.paths import AppPaths
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release

HOST_VARIABLES = ("HOME", "USER", "TZ")
"""What an instance takes over from the host besides PATH, and nothing else of who deploys."""

PRIVATE_TMP = "/tmp"  # noqa: S108 (of the unit alone: PrivateTmp=)

COOKIE_IN_FILE = "in-its-file"

FLAGS = distillery.FLAGS

NODE_FLAGS = (
    "-start_epmd false -erl_epmd_port {port} -kernel inet_dist_use_interface {{127,0,0,1}}"
    " -proto_dist inet_tcp"
)
"""Distribution on a port of the slot's own, local only, without epmd: erl(1), kernel(6).

In ERL_ZFLAGS, which the env.sh of projects leave alone; many set ERL_AFLAGS. Each may be there once
only, or erl takes none of its values.
"""

UNUSED_STOP_SECONDS = 5.0
"""From SIGTERM to SIGKILL for an instance that never served: a node that boots ignores SIGTERM."""


def instance(paths: AppPaths, app: App, release: Release, slot: int) -> Instance:
    """A release in a slot."""
    tree = paths.release(release.number)
    settings = project_settings.parse(release.manifest | app.settings)
    env = environment(paths, app, release, slot)
    own_way = distillery.made(tree, release)
    return Instance(
        app=app.name,
        slot=slot,
        release=release.number,
        argv=(str(tree / "bin" / release.name), "foreground" if own_way else "start"),
        env=distillery.of_instance(env) if own_way else env,
        cwd=tree,
        limits=Limits(settings.limits.memory, settings.limits.tasks, settings.limits.cpu),
        ports=app.every_port,
        stop_seconds=settings.instance.stop,
    )


def process(paths: AppPaths, app: App, release: Release, name: str, number: int) -> Instance:
    """An instance of a further process of a release; raises NotFound."""
    settings = project_settings.parse(release.manifest | app.settings)
    described = settings.processes[name]
    slot = f"{name}.{number}"
    words = processes.words(described.command)
    argv, env = one_off(paths, app, release, app.live_slot or 1, words)
    env |= {"GATLING_PROCESS": slot}
    if not paths.server:
        own = paths.slot(slot)
        env |= {"RELEASE_TMP": str(own / "tmp"), "ERL_CRASH_DUMP": str(own / "erl_crash.dump")}
        if "RELEASE_MUTABLE_DIR" in env:  # Distillery's
            env["RELEASE_MUTABLE_DIR"] = env["RELEASE_TMP"]
    return Instance(
        app=app.name,
        slot=slot,
        release=release.number,
        argv=tuple(argv),
        env=env,
        cwd=paths.release(release.number),
        limits=Limits(settings.limits.memory, settings.limits.tasks, settings.limits.cpu),
        stop_seconds=described.stop,
    )


def check_ports(app: App, slot: int, home: Path) -> None:
    """Raise PortTaken when somebody else listens where an instance in the slot must."""
    for port in (app.ports[slot], app.node_ports[slot]):
        if ports.is_free(port):
            continue
        what = f"Port {port}, which belongs to {app.name}, is taken by {ports.owner(port)}."
        other = port_claims.owner(port, home)
        if other is None:
            raise PortTaken(what, hint="End that process, then try again.")
        raise PortTaken(
            f"{what} An app of the Gatling home {other} has the same port.",
            hint=f"`GATLING_HOME={other} gatling apps` lists those; stop the one that has it.",
        )


def flag_faults(gatling: Gatling, app: App, release: Release, slot: int) -> list[str]:
    """What the project has made of the flags of the node that runs in a slot (node_flags.py)."""
    status = gatling.supervisor.status(app.name, slot)
    try:
        argv = Path(f"/proc/{status.pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []
    if not argv[0].endswith("/beam.smp"):
        return []
    tree = gatling.home.app(app.name).release(release.number)
    texts = [_text(tree / "releases" / release.version / name) for name in ("env.sh", "vm.args")]
    name = f"{release.name}@127.0.0.1"
    return node_flags.faults(argv, node_flags.Files(*texts), node=name, port=app.node_ports[slot])


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:  # Distillery's has no env.sh
        return ""


def user_id(paths: AppPaths) -> int | None:
    """The user that an app's instances run as, where it has one of its own."""
    return pwd.getpwnam(units.user(paths.name)).pw_uid if paths.server else None


def environment(paths: AppPaths, app: App, release: Release, slot: int) -> dict[str, str]:
    """An instance's environment: what Gatling suggests, the release's config, what Gatling sets."""
    dumps = paths.state if paths.server else paths.slot(slot)
    suggested = {
        "LANG": "C.UTF-8",
        "MIX_ENV": "prod",
        "PHX_SERVER": "true",
        "PHX_HOST": app.domain,
        # not into the release's tree, which other releases share files with
        "ERL_CRASH_DUMP": str(dumps / "erl_crash.dump"),
        # a VM that writes one has closed its sockets and is not started again before it has ended
        "ERL_CRASH_DUMP_SECONDS": "0",
    }
    own = release.config.get(FLAGS, "")
    fixed = {
        "PORT": str(app.ports[slot]),
        "RELEASE_DISTRIBUTION": "name",
        # both slots may bear one name: no epmd knows of them, and each has a port of its own
        "RELEASE_NODE": f"{release.name}@127.0.0.1",
        "RELEASE_TMP": PRIVATE_TMP if paths.server else str(paths.slot(slot) / "tmp"),
        FLAGS: f"{own} {NODE_FLAGS.format(port=app.node_ports[slot])}".lstrip(),
    }
    environment = _host(paths) | suggested | release.config | fixed
    own_way = distillery.made(paths.release(release.number), release)
    if paths.server:
        # Given as RELEASE_COOKIE it would be in the command line, which every user can see. Where
        # there are two of the flag, kernel's auth takes what is in ~/.erlang.cookie (enter.py).
        environment["GATLING_COOKIE"] = environment.get("RELEASE_COOKIE", "")
        environment["RELEASE_COOKIE"] = COOKIE_IN_FILE
        if not own_way:
            environment[FLAGS] += f" -setcookie {COOKIE_IN_FILE}"
    return distillery.environment(environment, server=paths.server) if own_way else environment


def one_off(
    paths: AppPaths, app: App, release: Release, slot: int, arguments: tuple[str, ...]
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a one-off command beside the instance in `slot`.

    `arguments` begin with a program of the release's bin/ (`migrate`), or else with a command of
    its main script (`eval`, `rpc`, `remote`, a custom one). Raises NotFound when there is none, or
    when the program is not executable: the main script would only print its usage.
    """
    tree = paths.release(release.number)
    if distillery.made(tree, release):
        arguments = distillery.arguments(release, arguments)
    command = arguments[0]
    own = tree / "bin" / command
    is_program = "/" not in command and command != release.name and own.is_file()
    if is_program and not executable(tree, command):
        raise NotFound(
            f"bin/{command} of {release.label} is not executable.",
            hint=f"`git update-index --chmod=+x rel/overlays/bin/{command}`, commit and push.",
        )
    if is_program:
        argv = [str(own), *arguments[1:]]
    elif executable(tree, release.name):
        argv = [str(tree / "bin" / release.name), *arguments]
    else:
        raise NotFound(f"The tree of {release.label} has no bin/{release.name}.")
    env = environment(paths, app, release, slot)
    # It talks to the instance's node, and must not listen where that one does.
    env[FLAGS] += " -dist_listen false"
    env["RELEASE_TMP"] = PRIVATE_TMP if paths.server else str(paths.root / "tmp")
    env.pop("PHX_SERVER", None)
    return argv, env


def task(
    paths: AppPaths, app: App, release: Release, slot: int, arguments: tuple[str, ...]
) -> Task:
    """The same as a task, in the release's directory."""
    tree = paths.release(release.number)
    argv, env = one_off(paths, app, release, slot, arguments)
    if distillery.made(tree, release):
        argv = distillery.once(argv, server=paths.server)
    settings = project_settings.parse(release.manifest | app.settings)
    limits = Limits(settings.limits.memory, settings.limits.tasks, settings.limits.cpu)
    return Task(paths, "release", argv, env, tree, limits=limits)


def executable(tree: Path, program: str) -> bool:
    """Whether a release has this program in its bin/ and it may be run."""
    path = tree / "bin" / program
    return path.is_file() and os.access(path, os.X_OK)


def _host(paths: AppPaths) -> dict[str, str]:
    if paths.server:
        return {"HOME": str(paths.state), "USER": units.user(paths.name),
                "PATH": program_path(paths)}  # fmt: skip
    host = {name: os.environ[name] for name in HOST_VARIABLES if name in os.environ}
    return host | {"PATH": program_path(paths)}
