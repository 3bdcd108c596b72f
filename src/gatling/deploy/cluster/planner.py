"""Questions that only nodes of both releases can answer, in a pod: config, children, structs.

A throw-away node of each is run beside the instance, one after the other: in its container, where
the environment, the files and the address are those that a start of the release would find there.
So each pod has answers of its own. They stay in the pod, since they may hold secrets.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import process
from gatling.beam import comparison as beam_comparison
from gatling.beam import toolbox
from gatling.beam.comparison import Answers
from gatling.beam.control import LOAD_SECONDS, charlist
from gatling.beam.etf import Atom
from gatling.deploy.cluster import nodes
from gatling.deploy.plan import inspection
from gatling.errors import CommandFailed, NodeUnreachable, PlannerFailed, TimedOut
from gatling.releases import safe_copy
from gatling.runtime import crash_excerpt

if TYPE_CHECKING:
    from gatling.beam.control import Control
    from gatling.deploy.plan.inspection import Differences
    from gatling.paths import AppPaths
    from gatling.platform.kubernetes.api import Api
    from gatling.state.releases import Release

PLACE = Path("/tmp/gatling-plan")  # noqa: S108 (of the pod alone)
ROOM_BYTES = 160 << 20
"""Memory that a pod must have free: for what one more node lacks, the instance is killed."""
ENDS_SECONDS = 15.0
"""For the end of a node that took too long, and for the way to the pod."""
NO_LIMIT = 1 << 60
"""The first version of control groups has a number for a limit that there is not."""
_NUMBER = re.compile(r"[0-9]{1,20}")
# The whole program ends by its own time limit, also if nobody waits for it any more. No node
# listens: the port of distribution is the instance's.
_RUN = (
    'export ERL_ZFLAGS="$ERL_ZFLAGS -dist_listen false"; mkdir -p "$RELEASE_TMP";'
    f' exec timeout -k 5 "$1" nice -n {process.BACKGROUND} "$2" eval "$3"'
)


def compared(
    api: Api, paths: AppPaths, pod: str, node: Control, live: Release, target: Release
) -> Differences:
    """How two releases differ, and what nodes of both answered in the pod if they were asked.

    Both trees are in the pod. `forget` removes the answers. Raises PlannerFailed, NodeUnreachable,
    ClusterFailed.
    """
    found = node.inspect(live, target, None)
    asked = beam_comparison.questions(found, target.name) if found.erts == "same" else None
    if asked is None:
        return found, None
    trees, modules = asked
    enough_room(node)
    forget(node)  # what a command that was killed has left, and its nodes find no place any more
    directory = PLACE / os.urandom(8).hex()
    _prepare(paths, node, directory, live)
    answers = Answers(directory / "old", directory / "new")
    for release, file in ((live, answers.old), (target, answers.new)):
        content = inspection.question(paths.release(release.number), trees, modules)
        _done(node.node.call("file", "write_file", charlist(file), content))
        _run(api, pod, release, directory, file)
    return node.inspect(live, target, answers), answers


def forget(node: Control) -> None:
    """Remove the answers from a pod, if there are any."""
    node.node.call("file", "del_dir_r", charlist(PLACE))


def forget_later(node: Control, stack: contextlib.ExitStack) -> None:
    """Remove them when the stack is closed, if the pod can still be reached."""

    def forgotten() -> None:
        with contextlib.suppress(NodeUnreachable):  # they go with the pod
            forget(node)

    stack.callback(forgotten)


def enough_room(node: Control) -> None:
    """Raise PlannerFailed if the pod's limit of memory is too close for a node more."""
    free = _free(node)
    if free is not None and free < ROOM_BYTES:
        raise PlannerFailed(
            f"only {max(0, free) >> 20} MB are free below limits.memory, and"
            f" {ROOM_BYTES >> 20} MB are needed to ask both releases"
        )


def _free(node: Control) -> int | None:
    """Bytes below the limit of the container; None without one.

    Files that the kernel can drop do not count. The names are those of the second version of
    control groups, then those of the first.
    """
    for limit, used, files in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        most = _read(node, limit)
        if most is None:
            continue
        if (top := _number(most)) is None or top > NO_LIMIT:
            return None
        in_use = _number(_read(node, used) or "") or 0
        stat = _read(node, f"{Path(limit).parent}/memory.stat") or ""
        counted = dict(line.split()[:2] for line in stat.splitlines() if len(line.split()) > 1)
        return top - in_use + (_number(counted.get(files, "")) or 0)
    return None


def _number(text: str) -> int | None:
    """The number that a node says a file of the kernel has; None if it is none."""
    return int(text) if _NUMBER.fullmatch(text) else None


def _read(node: Control, name: str) -> str | None:
    answer = node.node.call("file", "read_file", charlist(Path("/sys/fs/cgroup", name)))
    match answer:
        case ("ok", bytes(content)):
            return content.decode(errors="replace").strip()
    return None


def _prepare(paths: AppPaths, node: Control, directory: Path, release: Release) -> None:
    """Bring Gatling's code for throw-away nodes into a directory of the pod."""
    for made in (PLACE, directory):
        _done(node.node.call("file", "make_dir", charlist(made)))
        _done(node.node.call("file", "change_mode", charlist(made), 0o700))
    tools = _archive(toolbox.beams(paths, release), paths.cache_anchor)
    where = [Atom("compressed"), (Atom("cwd"), charlist(directory))]
    _done(node.node.call("erl_tar", "extract", (Atom("binary"), tools), where,
                         timeout=LOAD_SECONDS))  # fmt: skip


def _archive(beams: Path, base: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for file in sorted(beams.glob("gatling_*.beam")):
            content = safe_copy.read(file, base)
            member = tarfile.TarInfo(file.name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _done(answer: object) -> None:
    if answer != "ok":
        raise NodeUnreachable("The pod takes no files.")


def _run(api: Api, pod: str, release: Release, directory: Path, file: Path) -> None:
    own = {
        "GATLING_PLANNER": str(file),
        "GATLING_TOOLBOX": str(directory),
        "RELEASE_TMP": str(inspection.temporary(file)),
        "ERL_AFLAGS": process.QUIET_VM,
    }
    seconds = inspection.TIMEOUT_SECONDS
    program = nodes.tree(release.number) / "bin" / release.name
    words = [
        "env", *(f"{name}={value}" for name, value in own.items()),
        "sh", "-c", _RUN, "sh", str(int(seconds)), str(program), inspection.START,
    ]  # fmt: skip
    try:
        ended = api.execute(pod, words, timeout=seconds + ENDS_SECONDS)
    except TimedOut:
        raise PlannerFailed(f"{release.label} did not answer within {seconds:.0f} s.") from None
    except CommandFailed as error:
        raise PlannerFailed(f"{release.label} could not be inspected: {error.what}") from None
    if ended.status:
        said = (ended.output + ended.errors).decode(errors="replace").splitlines()
        cause = crash_excerpt.cause(said) or f"it ended with status {ended.status}"
        raise PlannerFailed(f"{release.label} does not boot: {cause}", log=said)
