"""Run the mix steps of a build in one VM and check what came out."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import process
from gatling.beam import toolbox
from gatling.build.steps import Steps
from gatling.errors import BuildFailed, CommandFailed, DiskFull, InvalidInput, MissingProgram
from gatling.project import deploy_key, names
from gatling.supervisor import units
from gatling.supervisor.base import Task
from gatling.supervisor.units import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatling.build.callbacks import Callbacks
    from gatling.build.steps import Watcher
    from gatling.home import AppPaths
    from gatling.project.settings import Build
    from gatling.supervisor.base import Tasks

ALMOST_NOTHING = 1 << 20
"""Free bytes below which a failure is put down to the full disk."""

TOOLCHAINS = Path("/etc/gatling/toolchains")
"""On a server: directories, or links, named after an app or `default`, whose bin/ goes first."""
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

AMBIENT_REFUSED = ("GIT_", "GATLING_", "RELEASE_", "ERL_", "ELIXIR_", "MIX_ENV", "PORT")
"""Variables of whoever pushes that must not reach a build or an instance."""


@dataclass(frozen=True, slots=True)
class Built:
    """A release tree in the staging directory, and what it says of itself."""

    tree: Path
    name: str
    version: str
    elixir: str
    otp: str


def build(
    tasks: Tasks,
    paths: AppPaths,
    config: Mapping[str, str],
    settings: Build,
    mark: str,
    watcher: Watcher,
    previous: Path | None = None,
    callbacks: Callbacks | None = None,
) -> Built:
    """Build the exported source. Incremental; the release is assembled in an empty directory.

    `previous` is a release's tree that may share files with this. With `callbacks` the VM goes on
    as theirs. Raises BuildFailed or DiskFull; nothing of a failed build is left but mix's own
    caches.
    """
    tasks.discard(paths, paths.staging)
    marker = f"@gatling-{os.urandom(8).hex()}"
    steps = Steps(marker, watcher)
    try:
        made = [str(toolbox.cache(paths)), str(toolbox.SOURCES)]
        arguments = [*made, marker, str(paths.staging), settings.release]
        if callbacks is not None:
            arguments.append(callbacks.file)
        argv = ["elixir", str(Path(__file__).parent / "priv" / "build.exs"), *arguments]
        task = Task(
            paths,
            "build",
            program_in(paths, argv),
            build_environment(paths, config),
            paths.source / settings.directory,
            mark=mark,
            nice=process.BACKGROUND,
            limits=Limits(settings.memory, settings.tasks, settings.cpu),
        )
        if callbacks is not None:
            callbacks.build(tasks, task, settings.timeout, steps)
        else:
            tasks.run(task, timeout=settings.timeout, on_line=steps.line)
        return _inspect(tasks.staged(paths, previous), steps.facts)
    except BuildFailed:
        tasks.discard(paths, paths.staging)
        raise
    except (CommandFailed, DiskFull) as error:
        # looked at before the clean-up makes room; the watcher's record may be the first to meet it
        full = isinstance(error, DiskFull) or _disk_is_full(paths.build, steps.tail)
        tasks.discard(paths, paths.staging)
        step = steps.current or "the build"
        if full:
            # mix' caches may be cut off in the middle of a file
            tasks.discard(paths, paths.source / settings.directory / "_build")
            what = f"{step} failed: no space is left on the disk."
            raise DiskFull(what, log=steps.tail, log_shown=True) from None
        what = f"{step} failed: {error.what}"
        hint = _hint(paths.name, steps.tail)
        raise BuildFailed(what, hint=hint, log=steps.tail, log_shown=True) from None


def build_environment(paths: AppPaths, config: Mapping[str, str]) -> dict[str, str]:
    """What a build sees: the user's environment, its key, the app's config; no terminal."""
    own = deploy_key.environment(paths) | {"MIX_ENV": "prod"}
    environment = ambient_environment(paths) | own | dict(config)
    environment.pop("RELEASE_COOKIE", None)
    return environment | {"GIT_TERMINAL_PROMPT": "0", "CI": "true"}


def ambient_environment(paths: AppPaths) -> dict[str, str]:
    """The environment of whoever runs Gatling, less what belongs to git and to other nodes.

    On a server it is the app's user who builds, with a home in the build directory.
    """
    if paths.server:
        return {"LANG": "C.UTF-8", "HOME": str(paths.build), "USER": units.user(paths.name),
                "PATH": program_path(paths)}  # fmt: skip
    kept = {k: v for k, v in os.environ.items() if not k.startswith(AMBIENT_REFUSED)}
    return {"LANG": "C.UTF-8"} | kept | {"PATH": program_path(paths)}


def program_path(paths: AppPaths) -> str:
    """PATH without what git adds to it for its hooks.

    On a server the system's, after the toolchain that root has put there for the app, or for all.
    """
    if paths.server:
        own = [TOOLCHAINS / name / "bin" for name in (paths.name, "default")]
        found = [str(directory) for directory in own if directory.is_dir()]
        return ":".join([*found[:1], SYSTEM_PATH])
    directories = os.environ.get("PATH", os.defpath).split(":")
    return ":".join(dict.fromkeys(d for d in directories if Path(d).name != "git-core"))


def program_in(paths: AppPaths, argv: Sequence[str]) -> list[str]:
    """A command line whose program is found on the PATH of the app's builds; MissingProgram."""
    found = shutil.which(argv[0], path=program_path(paths))
    if found is None:
        raise MissingProgram(
            f"{argv[0]} is not installed, or not on PATH.",
            hint=f"On Debian or Ubuntu: apt install {argv[0]}",
        )
    return [found, *argv[1:]]


def _inspect(tree: Path, facts: Mapping[str, str]) -> Built:
    """Find out name and version from the tree itself; raises BuildFailed when it is not whole."""
    try:
        _, version = (tree / "releases" / "start_erl.data").read_text().split()
        names.version(version)
        (relfile,) = (tree / "releases" / version).glob("*.rel")
        name = names.otp_name(relfile.stem)
        if not os.access(tree / "bin" / name, os.X_OK):
            raise BuildFailed(f"The release has no bin/{name}.")
    except InvalidInput as error:
        raise BuildFailed(error.what) from None
    except (OSError, ValueError):
        raise BuildFailed("mix release ended well but left no complete release.") from None
    return Built(tree, name, version, facts.get("elixir", ""), facts.get("otp", ""))


def _disk_is_full(path: Path, log: tuple[str, ...]) -> bool:
    if any("no space left on device" in line.lower() for line in log):
        return True
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize < ALMOST_NOTHING or stat.f_files > 0 == stat.f_favail


_UNREADABLE = ("Permission denied (publickey", "Host key verification failed",
               "Could not read from remote repository")  # fmt: skip
"""What git and ssh say of a repository that they are not let into."""

_NO_HEX = ("Could not install Hex", "Could not install Rebar",
           "Package fetch failed and no cached copy available")  # fmt: skip
"""What mix, and Hex itself, say when hex.pm cannot be reached."""


def _hint(app: str, log: tuple[str, ...]) -> str:
    text = "\n".join(log)
    if "multiple releases" in text or ":default_release" in text:
        return f"Say which one: `gatling settings set {app} build.release=NAME`."
    if any(word in text for word in _UNREADABLE):
        return f"A private repository: `gatling deploy-key create {app}`, if it has no key yet."
    if "npm is not installed here" in text:
        return f"On Debian or Ubuntu: apt install npm; another goes to {TOOLCHAINS}/default/bin."
    # Hex goes on with what it has of its registry, if it has anything
    stale = "Failed to fetch record for" in text and "the package does not exist" not in text
    lost = stale and any(word in text for word in ("in lockfile", "No package with name"))
    if lost or any(word in text for word in _NO_HEX):
        return (
            "The build must reach hex.pm by https. Through a proxy, or from a mirror:"
            f" `gatling config set {app} HTTPS_PROXY=URL` or `HEX_MIRROR=URL`, then push again."
        )
    return ""
