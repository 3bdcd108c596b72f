"""The commands and environments of instances and of a release's one-off commands."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from msgspec import structs

from gatling import process as programs
from gatling.errors import NotFound
from gatling.platform.base import Instance, Task
from gatling.platform.limits import Limits
from gatling.project import processes
from gatling.project import settings as project_settings
from gatling.releases import distillery
from gatling.runtime import node_flags

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.base import Surroundings
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release

COOKIE_IN_FILE = "in-its-file"
_SCRIPT_COMMANDS = frozenset(
    ("start", "start_iex", "daemon", "daemon_iex", "eval", "rpc", "remote", "restart", "stop",
     "pid", "version")
)  # fmt: skip
"""Commands of the script that `mix release` writes."""
CRASH_DUMP = "erl_crash.dump"

FLAGS = distillery.FLAGS

NODE_FLAGS = (
    "-start_epmd false -erl_epmd_port {port} -kernel inet_dist_use_interface {interface}"
    " -proto_dist inet_tcp"
)
"""Distribution on a port of the slot's own, local only, without epmd: erl(1), kernel(6).

In ERL_ZFLAGS, which the env.sh of projects leave alone; many set ERL_AFLAGS. Each may be there once
only, or erl takes none of its values.
"""

UNUSED_STOP_SECONDS = 5.0
"""From SIGTERM to SIGKILL for an instance that never served: a node that boots ignores SIGTERM."""


def instance(around: Surroundings, app: App, release: Release, slot: int) -> Instance:
    """A release in a slot."""
    tree = around.paths.release(release.number)
    settings = project_settings.parse(release.manifest | app.settings)
    env = environment(around, app, release, slot)
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


def process(around: Surroundings, app: App, release: Release, name: str, number: int) -> Instance:
    """An instance of a further process of a release; raises NotFound."""
    settings = project_settings.parse(release.manifest | app.settings)
    described = settings.processes[name]
    slot = f"{name}.{number}"
    words = processes.words(described.command)
    argv, env = one_off(around, app, release, app.live_slot or 1, words)
    env |= {"GATLING_PROCESS": slot}
    env |= {"RELEASE_TMP": around.paths.temporary(slot)}
    env.pop("ERL_AFLAGS", None)
    if "ERL_CRASH_DUMP" not in release.config:
        env |= {"ERL_CRASH_DUMP": str(around.paths.dumps(slot) / CRASH_DUMP)}
    if "RELEASE_MUTABLE_DIR" in env:  # Distillery's
        env["RELEASE_MUTABLE_DIR"] = env["RELEASE_TMP"]
    return Instance(
        app=app.name,
        slot=slot,
        release=release.number,
        argv=tuple(argv),
        env=env,
        cwd=around.paths.release(release.number),
        limits=Limits(settings.limits.memory, settings.limits.tasks, settings.limits.cpu),
        stop_seconds=described.stop,
    )


def flag_faults(gatling: Gatling, app: App, release: Release, slot: int) -> list[str]:
    """Describe the project's changes to the flags of the node in a slot (node_flags.py)."""
    argv = gatling.instances.command_line(app.name, slot)
    if not argv or not argv[0].endswith("/beam.smp"):
        return []
    tree = gatling.home.app(app.name).release(release.number)
    texts = [_text(tree / "releases" / release.version / name) for name in ("env.sh", "vm.args")]
    address = gatling.instances.node_address(app, slot)
    name = f"{release.name}@{address.host}"
    return node_flags.faults(argv, node_flags.Files(*texts), node=name, port=address.port)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:  # Distillery's has no env.sh
        return ""


def environment(around: Surroundings, app: App, release: Release, slot: int) -> dict[str, str]:
    """An instance's environment: what Gatling suggests, the release's config, what Gatling sets."""
    suggested = {
        "LANG": "C.UTF-8",
        "MIX_ENV": "prod",
        "PHX_SERVER": "true",
        "PHX_HOST": app.primary_domain,
        # not into the release's tree, which other releases share files with
        "ERL_CRASH_DUMP": str(around.paths.dumps(slot) / CRASH_DUMP),
        # a VM that writes one has closed its sockets and is not started again before it has ended
        "ERL_CRASH_DUMP_SECONDS": "0",
    }
    own = release.config.get(FLAGS, "")
    fixed = {
        "PORT": str(app.ports[slot]),
        "RELEASE_DISTRIBUTION": "name",
        # both slots may bear one name: no epmd knows of them, and each has a port of its own
        "RELEASE_NODE": f"{release.name}@{around.node_host}",
        "RELEASE_TMP": around.paths.temporary(slot),
        FLAGS: f"{own} {node_arguments(around.node_host, app.node_ports[slot])}".lstrip()
        + around.node_flags,
    }
    environment = dict(around.runtime) | suggested | release.config | fixed
    own_way = distillery.made(around.paths.release(release.number), release)
    if around.cookie_in_file:
        # Given as RELEASE_COOKIE it would be in the command line, which every user can see. If the
        # flag is given twice, kernel's auth takes the cookie of ~/.erlang.cookie (enter.py).
        environment["GATLING_COOKIE"] = environment.get("RELEASE_COOKIE", "")
        environment["RELEASE_COOKIE"] = COOKIE_IN_FILE
        if not own_way:
            environment[FLAGS] += f" -setcookie {COOKIE_IN_FILE}"
    if not own_way:
        return environment
    return distillery.environment(environment, cookie_in_file=around.cookie_in_file)


def node_arguments(host: str, port: int) -> str:
    """The arguments by which a node's distribution listens there, and nowhere else."""
    interface = f"{{{host.replace('.', ',')}}}"  # an IPv4 address as Erlang writes one
    return NODE_FLAGS.format(interface=interface, port=port)


def one_off(
    around: Surroundings, app: App, release: Release, slot: int, arguments: tuple[str, ...]
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a one-off command beside the instance in `slot`.

    `arguments` begin with a program of the release's bin/ (`migrate`), or else with a command of
    its main script (`eval`, `rpc`, `remote`, a custom one). Raises NotFound when there is none, or
    when the program is not executable: the main script would only print its usage.
    """
    tree = around.paths.release(release.number)
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
    if slot in around.without_flags:
        around = structs.replace(around, node_flags="")
    env = environment(around, app, release, slot)
    # It talks to the instance's node, and must not listen where that one does.
    env[FLAGS] += " -dist_listen false"
    env |= quiet(tree, release)
    env["RELEASE_TMP"] = around.paths.temporary_once
    env.pop("PHX_SERVER", None)
    return argv, env


def quiet(tree: Path, release: Release) -> dict[str, str]:
    """The variables of a VM of a release that serves nobody.

    The project's own flags come after these. Distillery's releases get none: an old OTP does not
    know them.
    """
    return {} if distillery.made(tree, release) else {"ERL_AFLAGS": programs.QUIET_VM}


def task(
    around: Surroundings, app: App, release: Release, slot: int, arguments: tuple[str, ...]
) -> Task:
    """The same as a task, in the release's directory."""
    tree = around.paths.release(release.number)
    argv, env = one_off(around, app, release, slot, arguments)
    if distillery.made(tree, release):
        argv = distillery.once(argv, private_tmp=around.private_tmp)
    settings = project_settings.parse(release.manifest | app.settings)
    limits = Limits(settings.limits.memory, settings.limits.tasks, settings.limits.cpu)
    return Task(around.paths, "release", argv, env, tree, limits=limits)


def runs(tree: Path, release: Release, word: str) -> bool:
    """Whether a release has a program of this name, or its script such a command.

    A project's env.sh may have commands of its own: it is read before the script looks at the word.
    """
    if not word or "/" in word or word == release.name:
        return False
    if word in _SCRIPT_COMMANDS or (tree / "bin" / word).is_file():
        return True
    own = _text(tree / "releases" / release.version / "env.sh")
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", own) is not None


def executable(tree: Path, program: str) -> bool:
    """Whether a release has this program in its bin/ and it may be run."""
    path = tree / "bin" / program
    return path.is_file() and os.access(path, os.X_OK)
