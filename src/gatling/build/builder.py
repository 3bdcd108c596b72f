"""Run the mix steps of a build in one VM and check what came out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import names, text
from gatling.build import vm
from gatling.build.steps import Steps
from gatling.cleanup import cleaning
from gatling.errors import BuildFailed, CommandFailed, DiskFull, GatlingError, InvalidInput
from gatling.project import source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gatling.build.callbacks import Callbacks
    from gatling.build.steps import Watcher
    from gatling.build.vm import Vm
    from gatling.platform.base import Surroundings
    from gatling.platform.interface import Tasks
    from gatling.project.settings import Build

ALMOST_NOTHING = 1 << 20
"""Free bytes below which a failure is put down to the full disk."""


class Built(Struct, frozen=True):
    """A release tree in the staging directory, and what it says of itself."""

    tree: Path
    name: str
    version: str
    elixir: str
    otp: str


def build(
    tasks: Tasks,
    around: Surroundings,
    config: Mapping[str, str],
    settings: Build,
    mark: str,
    watcher: Watcher,
    commit: str = "",
    previous: Path | None = None,
    callbacks: Callbacks | None = None,
    early: Vm | None = None,
    branches: Sequence[str] = (),
) -> Built:
    """Build the exported source. Incremental; the release is assembled in an empty directory.

    `commit` is its id, for the build to read. `previous` is a release's tree that may share files
    with this. With `callbacks` the VM goes on as theirs. `early` was started before the source was
    there; it is used if it is what would be started now. `branches` are those whose next push will
    want such a VM again. Raises BuildFailed or DiskFull; nothing of
    a failed build is left but mix's own caches.
    """
    paths = around.paths
    steps = Steps(f"@gatling-{os.urandom(8).hex()}", watcher)
    arguments = [
        str(paths.source / settings.directory),
        steps.marker,
        str(paths.staging),
        settings.release,
        str(source.git_directory(paths)),
    ]
    if callbacks is not None:
        arguments.append(callbacks.file)
    try:
        started = vm.fitting(tasks, early, lambda: vm.task(around, config, settings, mark, commit))
        tasks.discard(paths, paths.staging)
        started.say(arguments)
        if branches:
            tasks.expect(started.task, commit, branches)
        if callbacks is not None:
            callbacks.build(started.conversation, settings.timeout, steps)
        else:
            started.attend(settings.timeout, steps.line)
        return _inspect(tasks.staged(paths, previous), steps.facts)
    except BuildFailed as error:
        with cleaning(error):
            tasks.discard(paths, paths.staging)
        raise
    except (CommandFailed, DiskFull) as error:
        # looked at before the clean-up makes room; the watcher's record may be the first to meet it
        full = isinstance(error, DiskFull) or _disk_is_full(paths.build, steps.tail)
        failed = _failed(paths.name, steps, error, full=full)
        with cleaning(failed):
            tasks.discard(paths, paths.staging)
        if full:
            # Files may be cut off in their middle, anywhere in the checkout. And what the build has
            # made there would keep the disk too full for the next one: that fetches it again.
            with cleaning(failed):
                tasks.discard(paths, paths.source)
        raise failed from None


def _failed(app: str, steps: Steps, error: GatlingError, *, full: bool) -> GatlingError:
    """Return the error that reports a build's failure."""
    step = text.step(steps.current) or "the build"
    if full:
        what = f"{step} failed: no space is left on the disk."
        return DiskFull(what, log=steps.tail, log_shown=True)
    from gatling.build import hints  # few builds fail

    hint = hints.hint(app, steps.tail, steps.facts.get("missing", ""))
    what = f"{step} failed: {error.what}"
    return BuildFailed(what, hint=hint, log=steps.tail, log_shown=True)


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
        raise BuildFailed("mix release succeeded but left no complete release.") from None
    return Built(tree, name, version, facts.get("elixir", ""), facts.get("otp", ""))


def _disk_is_full(path: Path, log: tuple[str, ...]) -> bool:
    # the programs of a build run with LC_ALL=C.UTF-8, and no other sign is left once they clean up
    if any("no space left on device" in line.lower() for line in log):
        return True
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize < ALMOST_NOTHING or stat.f_files > 0 == stat.f_favail
