"""Throw-away nodes of two releases that answer questions which their files leave open."""

from __future__ import annotations

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from msgspec import structs

from gatling import process
from gatling.beam import comparison as beam_comparison
from gatling.beam import etf, toolbox
from gatling.beam.comparison import Answers
from gatling.beam.etf import Atom
from gatling.cleanup import cleaning
from gatling.errors import CommandFailed, PlannerFailed, TimedOut
from gatling.runtime import crash_excerpt, spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from gatling.beam.comparison import Comparison
    from gatling.beam.control import Control
    from gatling.paths import AppPaths
    from gatling.platform.base import Surroundings
    from gatling.platform.interface import Tasks
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release

TIMEOUT_SECONDS = 60.0
ENDING_SECONDS = 0.2
"""Pause between two attempts to end nodes."""
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
"""Makes a file, and follows no link to one."""
START = (
    ':code.add_patha(String.to_charlist(System.fetch_env!("GATLING_TOOLBOX")));'
    " :gatling_planner.main()"
)
"""The program of such a node, in Elixir; its environment names the file and the toolbox."""


@contextlib.contextmanager
def ask(
    tasks: Tasks,
    around: Surroundings,
    app: App,
    live: Release,
    target: Release,
    trees: Sequence[str],
    modules: Sequence[str],
) -> Iterator[Answers]:
    """Ask both releases for their config, supervision trees and modules; raises PlannerFailed.

    Their applications are not started. The files are removed when the block ends.
    """
    paths = around.paths
    with _files(paths, private_tmp=around.private_tmp) as answers:
        mark = f"{paths.home}:plan:{os.urandom(8).hex()}"
        with ThreadPoolExecutor(2) as pool:
            jobs = [
                pool.submit(_run, tasks, around, app, release, file, trees, modules, mark)
                for release, file in ((live, answers.old), (target, answers.new))
            ]
            try:
                for job in jobs:
                    job.result()
            except PlannerFailed:
                raise
            except BaseException as error:  # interrupted: the signal reached this thread alone
                with cleaning(error):
                    _end(tasks, app, jobs, mark)
                raise
        yield answers


def _end(tasks: Tasks, app: App, jobs: Sequence[Future[None]], mark: str) -> None:
    """End the nodes, also one that is just being started."""
    for job in jobs:
        job.cancel()
    while not all(job.done() for job in jobs):
        tasks.end(app.name, mark)
        wait(jobs, ENDING_SECONDS)


@contextlib.contextmanager
def _files(paths: AppPaths, *, private_tmp: bool) -> Iterator[Answers]:
    """Names for the files, which are gone when the block ends.

    The app may write in their directory: what is made there is made and removed by one name that no
    link is followed for, and a directory of ours in it would not be safe.
    """
    stem = f"planner-{os.urandom(8).hex()}"
    answers = Answers(paths.work / f"{stem}-old", paths.work / f"{stem}-new")
    try:
        yield answers
    finally:
        for file in (answers.old, answers.new):
            with contextlib.suppress(OSError):
                file.unlink()
            if not private_tmp:
                shutil.rmtree(temporary(file), ignore_errors=True)


def temporary(file: Path) -> Path:
    """The temporary directory of the node that answers in a file, where it has none of its own."""
    return file.with_name(f"{file.name}.tmp")


def _run(
    tasks: Tasks,
    around: Surroundings,
    app: App,
    release: Release,
    file: Path,
    trees: Sequence[str],
    modules: Sequence[str],
    mark: str,
) -> None:
    tree = around.paths.release(release.number)
    asked = question(tree, trees, modules)
    try:
        fd = os.open(file, NEW, 0o600)
    except OSError as error:
        raise PlannerFailed(f"{file} cannot be written: {error.strerror}.") from None
    with os.fdopen(fd, "wb") as sink:
        os.fchmod(fd, around.paths.work_mode)
        sink.write(asked)
    # the slot is part of the config (PORT), and it is the live one that will run with it
    slot = app.live_slot or app.free_slot
    task = spec.task(around, app, release, slot, ("eval", START))
    beams = toolbox.beams(around.paths, release)
    # with a tmp of its own: two of them, and a command of the user's, may run at once
    own = {
        "GATLING_PLANNER": str(file),
        "GATLING_TOOLBOX": str(beams),
        # one-off commands go without it, and config and children of an instance may depend on it
        "PHX_SERVER": spec.environment(around, app, release, slot).get("PHX_SERVER", ""),
    }
    if not around.private_tmp:
        own["RELEASE_TMP"] = str(temporary(file))
    task = structs.replace(task, env=task.env | own, nice=process.BACKGROUND, mark=mark)
    try:
        tasks.run(task, timeout=TIMEOUT_SECONDS)
    except TimedOut as error:
        what = f"{release.label} could not be inspected: {error.what}"
        raise PlannerFailed(what, log=error.log) from None
    except CommandFailed as error:
        cause = crash_excerpt.cause(error.log) or error.what
        raise PlannerFailed(f"{release.label} does not boot: {cause}", log=error.log) from None


def question(tree: Path, trees: Sequence[str], modules: Sequence[str]) -> bytes:
    """The content of the file that a node of the release in a tree reads, and answers in."""
    return etf.encode({
        Atom("apps"): [Atom(name) for name in _applications(tree)],
        Atom("trees"): [Atom(name) for name in trees],
        Atom("modules"): [Atom(name) for name in modules],
    })  # fmt: skip


def _applications(tree: Path) -> list[str]:
    """The applications of a release, by the names of its lib directories."""
    return sorted(
        ebin.parent.name.rpartition("-")[0] for ebin in (tree / "lib").glob("[!.]*-*/ebin")
    )


Differences = tuple["Comparison", "Answers | None"]
"""How two releases differ, and what throw-away nodes of both said of it if they were asked."""


@contextlib.contextmanager
def compared(
    gatling: Gatling, app: App, node: Control, live: Release, target: Release
) -> Iterator[Differences]:
    """Compare two releases, with a throw-away node of each where their files do not suffice.

    Raises PlannerFailed.
    """
    found = node.inspect(live, target, None)
    asked = beam_comparison.questions(found, target.name) if found.erts == "same" else None
    if asked is None:
        yield found, None
        return
    trees, modules = asked
    around = gatling.apps.surroundings(app.name)
    with ask(gatling.tasks, around, app, live, target, trees, modules) as answers:
        yield node.inspect(live, target, answers), answers
