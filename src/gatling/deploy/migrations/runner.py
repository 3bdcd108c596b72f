"""Migrations: the new release's own, run once before anything of the live one is touched.

Ecto keeps them as priv/REPO/migrations/VERSION_name.exs in an application, in directories below as
well; dot files and files without a version (.formatter.exs, seeds.exs) are not migrations. The
release itself runs them: bin/migrate, as `mix phx.gen.release` writes it, or migrate/0 of the
application's Release module, or what the setting migrate.command says.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.deploy import pools
from gatling.deploy.migrations import linter, points, rehearsal
from gatling.errors import CommandFailed, MigrationFailed, NotFound
from gatling.project import processes
from gatling.releases import distillery
from gatling.runtime import spec
from gatling.state import deployments
from gatling.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gatling.deploy.context import Context
    from gatling.deploy.migrations.linter import Danger
    from gatling.paths import AppPaths
    from gatling.platform.base import Surroundings
    from gatling.platform.interface import Tasks
    from gatling.platform.open import Gatling
    from gatling.project.settings import Migrate
    from gatling.state.apps import App
    from gatling.state.releases import Release

    Elsewhere = Callable[[tuple[str, ...], float, Callable[[str], None]], None]
    """Runs a command of the release, with a time limit and a reader of its output."""

_MIGRATION = re.compile(r"[+-]?[0-9]+_.*\.exs\Z")
"""As Ecto.Migrator takes them: an integer, an underscore, a name."""

AUTO = "auto"
SETUP = "setup"
"""The step of that name; once it has succeeded it is never run again."""
SCRIPT_SOURCE = "rel/overlays/bin/migrate"
"""The path of the source of bin/migrate in a project."""
AGAIN = (
    "Fix the problem and push again. The setup runs with every push until it has succeeded once."
)


def run(
    gatling: Gatling,
    context: Context,
    live: Release | None,
    target: Release,
    *,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Run the migrations that `target` brings, and the setup if it is the app's first release.

    With `elsewhere` the commands do not run on this machine.
    Raises MigrationFailed with `live` untouched. Going back runs none, nor does a change of config:
    the source is the same.
    """
    tasks, around = gatling.tasks, gatling.apps.surroundings(context.app.name)
    if elsewhere is None:
        target = structs.replace(target, config=pools.direct(gatling, context.app.name,
                                                             target.config))  # fmt: skip
    if live is not None:
        if runs_any(live, target):
            _migrate(gatling, around, context, live, target, elsewhere)
        return
    setup = processes.words(context.settings.migrate.setup)
    _migrate(gatling, around, context, live, target, elsewhere)
    db, name = gatling.db, context.app.name
    if setup and not deployments.ever_live(db, name) and not deployments.has_done(db, name, SETUP):
        with context.journal.step(SETUP):
            what = "The setup (migrate.setup)"
            _run(tasks, around, context, target, setup, what, AGAIN, elsewhere=elsewhere)


def _migrate(
    gatling: Gatling,
    around: Surroundings,
    context: Context,
    live: Release | None,
    target: Release,
    elsewhere: Elsewhere | None,
) -> None:
    tasks = gatling.tasks
    settings = context.settings.migrate
    new = pending(around.paths, live, target)
    tree = around.paths.release(target.number)
    words = command(tree, target, settings)
    if settings.command == AUTO and not new:
        return
    if (
        settings.command == AUTO
        and _script(tree).is_file()
        and not spec.executable(tree, "migrate")
    ):
        context.progress.note(
            "bin/migrate of the release is not executable and is not used:"
            f" `git update-index --chmod=+x {SCRIPT_SOURCE}`"
        )
    if words is None:
        if new and settings.command == AUTO:
            context.progress.note(
                f"{counted(len(new), 'new migration')}, and nothing in the release runs them:"
                " neither bin/migrate nor a Release module (`mix phx.gen.release` writes both)"
            )
        return
    _warn(tasks, around, context, live, target, new)
    if settings.rehearse:
        rehearsal.rehearse(
            gatling, context, target,
            lambda on_fork: _run(tasks, around, context, on_fork, words,
                                 "The rehearsal of the migrations", rehearsal.HINT),
        )  # fmt: skip
    points.make(gatling, context, target)
    with context.journal.step("migrate"):
        _run(tasks, around, context, target, words, "The migrations", elsewhere=elsewhere)


def runs_any(live: Release | None, target: Release) -> bool:
    """Whether a deployment may run migrations: not a rollback, and not a change of config."""
    return live is None or (target.number > live.number and target.origin != "config")


def pending(paths: AppPaths, live: Release | None, target: Release) -> list[str]:
    """The migrations that `target` has and `live` has not: application, repository, file name."""
    before = names(paths.release(live.number)) if live is not None else set()
    return sorted(names(paths.release(target.number)) - before)


def names(tree: Path) -> set[str]:
    """The migrations in a release's tree: application, repository and file name of each."""
    return set(_files(tree))


def looked_through(
    tasks: Tasks,
    around: Surroundings,
    app: App,
    live: Release | None,
    target: Release,
    new: Sequence[str],
    mark: str = "",
) -> dict[str, list[Danger]]:
    """Return the dangers for the live release, by migration; raises CommandFailed.

    The result has no dangers when no release is live.
    """
    if live is None or not new:
        return {name: [] for name in new}
    # in Ecto's order: that of their versions, with which the names begin
    order = sorted(new, key=lambda name: (name.rpartition("/")[2], name))
    files = _files(around.paths.release(target.number))
    found = linter.found(tasks, around, app, target, [files[name] for name in order], mark)
    return dict(sorted(zip(order, found, strict=True)))


def _files(tree: Path) -> dict[str, Path]:
    """The migrations in a release's tree by name: where they are in it."""
    found = {}
    for file in tree.glob("lib/*/priv/*/migrations/**/*.exs"):
        path = file.relative_to(tree)
        if not _MIGRATION.match(file.name) or any(part.startswith(".") for part in path.parts):
            continue
        app, _, _ = path.parts[1].rpartition("-")
        found["/".join((app, *path.parts[3:]))] = path
    return found


def command(tree: Path, release: Release, settings: Migrate) -> tuple[str, ...] | None:
    """Return the words for `gatling run` that run the migrations; None: nothing runs them."""
    if settings.command != AUTO:
        return processes.words(settings.command) or None
    if spec.executable(tree, "migrate") or distillery.migrates(tree, release):
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


def _script(tree: Path) -> Path:
    return tree / "bin" / "migrate"


def _release_module(tree: Path, release: Release) -> str | None:
    """The module that the application has for this, `Shop.Release`; as Elixir writes it."""
    with_migrations = {name.partition("/")[0] for name in names(tree)}
    for app in (release.name, *sorted(with_migrations - {release.name})):
        for beam in sorted(tree.glob(f"lib/{app}-*/ebin/Elixir.*.Release.beam")):
            module = beam.stem.removeprefix("Elixir.")
            if re.fullmatch(r"[A-Z]\w*\.Release", module, re.ASCII):
                return module
    return None


def _warn(
    tasks: Tasks,
    around: Surroundings,
    context: Context,
    live: Release | None,
    target: Release,
    new: Sequence[str],
) -> None:
    """Warn of migrations that may break the live release; a failed analysis is only a note."""
    note = context.progress.note
    try:
        found = looked_through(
            tasks, around, context.app, live, target, new, context.deployment.mark
        )
    except (CommandFailed, NotFound) as error:
        note(f"the migrations could not be checked: {error.what}")
        return
    for name, dangerous in found.items():
        for danger in dangerous:
            note(f"{name.rpartition('/')[2]}, {danger.text}")
    if any(found.values()):
        note(linter.ADVICE)


def _run(
    tasks: Tasks,
    around: Surroundings,
    context: Context,
    target: Release,
    words: tuple[str, ...],
    what: str,
    hint: str = "",
    *,
    elsewhere: Elsewhere | None = None,
) -> None:
    limit = context.settings.migrate.timeout
    try:
        if elsewhere is not None:
            elsewhere(words, limit, context.journal.line)
            return
        task = spec.task(around, context.app, target, context.app.free_slot, words)
        task = structs.replace(task, mark=context.deployment.mark)
        tasks.run(task, timeout=limit, on_line=context.journal.line)
    except (CommandFailed, NotFound) as error:
        raise MigrationFailed(
            f"{what} of {target.label} failed: {error.what}",
            hint=hint,
            log=getattr(error, "log", ()),
            log_shown=True,
        ) from None
