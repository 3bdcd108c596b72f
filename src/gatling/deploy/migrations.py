"""Migrations: the new release's own, run once before anything of the live one is touched.

Ecto keeps them as priv/REPO/migrations/*.exs in an application. What runs them is the release's:
bin/migrate, as `mix phx.gen.release` writes it, or migrate/0 of the application's Release module,
or what the setting migrate.command says.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import TYPE_CHECKING

from gatling.deploy import instances
from gatling.errors import CommandFailed, InvalidInput, MigrationFailed, NotFound
from gatling.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.deploy.attempt import Attempt
    from gatling.home import AppPaths
    from gatling.project.settings import Migrate
    from gatling.state.releases import Release
    from gatling.supervisor.base import Tasks

AUTO = "auto"


def run(
    tasks: Tasks, paths: AppPaths, this: Attempt, live: Release | None, target: Release
) -> None:
    """Run the migrations that `target` brings; raises MigrationFailed with `live` untouched.

    Going back runs none, nor does a change of config: the source is the same.
    """
    if live is not None and (target.number <= live.number or target.origin == "config"):
        return
    settings = this.settings.migrate
    new = pending(paths, live, target)
    words = command(paths.release(target.number), target, settings)
    if settings.command == AUTO and not new:
        return
    if words is None:
        if new and settings.command == AUTO:
            this.progress.note(
                f"{counted(len(new), 'new migration')}, and nothing in the release runs them:"
                " neither bin/migrate nor a Release module (`mix phx.gen.release` writes both)"
            )
        return
    with this.journal.step("migrate"):
        _migrate(tasks, paths, this, target, words)


def pending(paths: AppPaths, live: Release | None, target: Release) -> list[str]:
    """The migrations that `target` has and `live` has not: application, repository, file name."""
    before = names(paths.release(live.number)) if live is not None else set()
    return sorted(names(paths.release(target.number)) - before)


def names(tree: Path) -> set[str]:
    """The migrations in a release's tree: application, repository and file name of each."""
    found = set()
    for file in tree.glob("lib/*/priv/*/migrations/**/*.exs"):
        app, _, _ = file.relative_to(tree / "lib").parts[0].rpartition("-")
        found.add("/".join((app, *file.relative_to(tree / "lib").parts[2:])))
    return found


def command(tree: Path, release: Release, settings: Migrate) -> tuple[str, ...] | None:
    """What runs the migrations, as words for `gatling run`; None when nothing does.

    Raises InvalidInput for a setting that is no command line.
    """
    if settings.command != AUTO:
        try:
            return tuple(shlex.split(settings.command)) or None
        except ValueError as error:
            raise InvalidInput(f"migrate.command is no command line: {error}.") from None
    if (tree / "bin" / "migrate").is_file():
        return ("migrate",)
    module = _release_module(tree, release)
    if module is None:
        return None
    call = (
        f"if Code.ensure_loaded?({module}) and function_exported?({module}, :migrate, 0),"
        f" do: {module}.migrate(),"
        f' else: IO.puts("{module} has no migrate/0: nothing is migrated.")'
    )
    return ("eval", call)


def _release_module(tree: Path, release: Release) -> str | None:
    """The module that the application has for this, `Shop.Release`; as Elixir writes it."""
    with_migrations = {name.partition("/")[0] for name in names(tree)}
    for app in (release.name, *sorted(with_migrations - {release.name})):
        for beam in sorted(tree.glob(f"lib/{app}-*/ebin/Elixir.*.Release.beam")):
            module = beam.stem.removeprefix("Elixir.")
            if re.fullmatch(r"[A-Z]\w*\.Release", module, re.ASCII):
                return module
    return None


def _migrate(
    tasks: Tasks, paths: AppPaths, this: Attempt, target: Release, words: tuple[str, ...]
) -> None:
    try:
        task = instances.task(paths, this.app, target, this.app.free_slot, words)
        task = dataclasses.replace(task, mark=this.deployment.mark)
        tasks.run(task, timeout=this.settings.migrate.timeout, on_line=this.journal.line)
    except (CommandFailed, NotFound) as error:
        raise MigrationFailed(
            f"The migrations of {target.label} failed: {error.what}",
            log=getattr(error, "log", ()),
            log_shown=True,
        ) from None
