"""Statements in a new release's migrations that may break the running release.

The files are a stranger's. They are never run here, nor parsed: a release does that in a VM that is
thrown away (priv/migrations.exs), with the rights of the app, and only where there are new ones.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from gatling import process
from gatling.errors import CommandFailed
from gatling.runtime import spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.platform.base import Surroundings
    from gatling.platform.interface import Tasks
    from gatling.state.apps import App
    from gatling.state.releases import Release

SCRIPT = Path(__file__).parent / "priv" / "migrations.exs"
TIMEOUT_SECONDS = 30.0
MAX_FILES = 200
MAX_NAMES = 64 * 1024
"""Not more are looked at, the newest: so many come at once with a project of elsewhere only."""

ADVICE = "Use two deployments: first code that works with both schemas, then the migration."


class Danger(Struct, frozen=True):
    """A line of a migration that code which is running may not live with."""

    line: int
    what: str
    why: str

    @property
    def text(self) -> str:
        """Both in one line."""
        return f"line {self.line} {self.what}: {self.why}"


def found(
    tasks: Tasks,
    around: Surroundings,
    app: App,
    target: Release,
    files: Sequence[Path],
    mark: str = "",
) -> list[list[Danger]]:
    """The dangers in each of these files of a release's tree, which are in the order they run in.

    Raises CommandFailed when the release cannot analyse them.
    """
    dangers: list[list[Danger]] = [[] for _ in files]
    named = _named(files)
    skipped = len(files) - len(named)
    marker = f"@gatling-{os.urandom(8).hex()}"

    def line(text: str) -> None:
        words = text.split(" ")
        if words[0] == marker and len(words) == 7:
            dangers[skipped + int(words[1])].append(_danger(words[2:]))

    slot = app.live_slot or app.free_slot
    task = spec.task(around, app, target, slot, ("eval", SCRIPT.read_text()))
    own = {"GATLING_MIGRATIONS": " ".join([marker, *named])}
    task = structs.replace(task, env=task.env | own, mark=mark, nice=process.BACKGROUND)
    try:
        tasks.run(task, timeout=TIMEOUT_SECONDS, on_line=line)
    except (ValueError, LookupError):  # the marker is known to whom is asked
        raise CommandFailed("The release sent an invalid answer.") from None
    return dangers


def _named(files: Sequence[Path]) -> list[str]:
    """The last of the files, as far as their names are not too long for an environment."""
    named: list[str] = []
    for file in reversed(files[-MAX_FILES:]):
        named.insert(0, base64.b64encode(os.fsencode(file)).decode())
        if sum(map(len, named)) > MAX_NAMES:
            return named[1:]
    return named


def _danger(words: Sequence[str]) -> Danger:
    number, *texts = words
    kind, table, column, new = (_text(word) for word in texts)
    name = f"{table}.{column}" if table else column
    what, why = _WORDS[kind]
    return Danger(int(number), what.format(table=table, name=name, new=new), why)


def _text(word: str) -> str:
    raw = base64.b64decode(word.removeprefix("="), validate=True)[:256].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in raw)


_USES = "running code may still use it"
_WORDS = {
    "remove": ("drops column {name}", _USES),
    "drop": ("drops table {table}", _USES),
    "rename_column": ("renames column {name} to {new}", _USES),
    "rename_table": ("renames table {table} to {new}", _USES),
    "not_null": (
        "makes column {name} NOT NULL",
        "running code may still write rows without it",
    ),
    "add_not_null": (
        "adds column {name}, NOT NULL without a default",
        "running code writes rows without it",
    ),
    "sql": ("runs SQL with {table}", "running code may need the old schema"),
    "index": (
        "creates an index on {table} without CONCURRENTLY",
        "PostgreSQL blocks writes to the table until it finishes",
    ),
    "unread": ("was not checked", "it is too large or not valid Elixir"),
}
