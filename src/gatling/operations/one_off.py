"""One-off commands with the code and config of a release."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.deploy import pools
from gatling.errors import InvalidInput, NotFound
from gatling.platform.base import run_mark
from gatling.releases import distillery, store
from gatling.runtime import spec
from gatling.state import apps, audit, releases

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.base import Task
    from gatling.platform.open import Gatling
    from gatling.state.releases import Release

NEED_THE_NODE = ("rpc", "remote", "remote_console", "pid", "stop", "restart")
"""Commands of a release's script that talk to the running node."""


def prepare(gatling: Gatling, app: str, arguments: tuple[str, ...], number: int | None) -> Task:
    """A one-off command, ready to be run; the tree of its release stays as long as this process.

    `number` is a release, None the live one. Raises NotFound, and InvalidInput where nothing was
    deployed yet or the command needs a node that does not run.
    """
    found = apps.get(gatling.db, app)
    number = number or found.live_release
    if number is None:
        raise InvalidInput(f"{app} has not been deployed yet.")
    slot = found.live_slot or found.free_slot
    if arguments[0] in NEED_THE_NODE and not gatling.instances.status(app, slot).up:
        raise InvalidInput(
            f"{app} is not running; {arguments[0]} needs its node.",
            hint=f"`gatling start {app}`, or `gatling up` for all apps.",
        )
    around = gatling.apps.surroundings(app)
    with contextlib.suppress(FileNotFoundError):  # the record says so
        store.use(around.paths, number)
    release = releases.kept(gatling.db, app, number)
    check_known(around.paths.release(number), release, arguments)
    release = structs.replace(release, config=pools.direct(gatling, app, release.config))
    task = spec.task(around, found, release, slot, arguments)
    audit.record(gatling.db, gatling.actor, app, "run", arguments[0])
    mark = run_mark(around.paths, os.urandom(8).hex())
    return structs.replace(task, kind="run", mark=mark)


def check_known(tree: Path, release: Release, arguments: tuple[str, ...]) -> None:
    """Raise NotFound for a word that the release does not know: its script only prints its usage.

    Distillery's script names the unknown command itself.
    """
    word = arguments[0]
    if distillery.made(tree, release) or spec.runs(tree, release, word):
        return
    own = [file.name for file in sorted((tree / "bin").iterdir()) if file.name != release.name]
    programs = [name for name in own if spec.executable(tree, name) and not name.endswith(".bat")]
    first = word.split(maxsplit=1)[0] if word.strip() else ""
    if first != word and spec.runs(tree, release, first):
        hint = f"Give it as words of its own: `gatling run {release.app} -- {first} …`"
    else:
        hint = (
            f"`gatling run {release.app} -- eval 'CODE'` runs Elixir code."
            f" Programs in bin/: {', '.join(programs) or 'none'}."
        )
    raise NotFound(
        f"{release.label} of {release.app} has no command or program {word!r}.", hint=hint
    )
