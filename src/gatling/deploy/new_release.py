"""From a commit to a stored release, with the project's own callbacks in between."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.build import builder, callbacks, toolchain
from gatling.build.callbacks import Callbacks
from gatling.deploy import early as early_vm
from gatling.deploy import preload, project_domains, published
from gatling.errors import BuildFailed, CommandFailed, InvalidInput, NotFound
from gatling.platform.toolchains import order
from gatling.project import manifest, toolchain_files
from gatling.project import settings as project_settings
from gatling.releases import store
from gatling.state import apps, audit, config, home_settings, releases
from gatling.state.releases import Release
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatling.build.vm import Vm
    from gatling.deploy.context import Context
    from gatling.platform.base import Surroundings
    from gatling.platform.open import Gatling
    from gatling.project.toolchains import Toolchain


def make(
    gatling: Gatling, context: Context, commit: str, early: Vm | None = None
) -> tuple[Context, Release]:
    """Export and build a commit, and store the release.

    `early` is a VM that was started for the build. The context is returned with the commit's
    settings and domains. Raises BuildFailed and DiskFull.
    """
    name, paths, journal = context.app.name, gatling.home.app(context.app.name), context.journal
    directory = context.settings.build.directory
    journal.phase(f"Building {commit[:9]}")
    with contextlib.ExitStack() as waiting:
        if early is not None:
            waiting.callback(early.close)
        with journal.step("export_source"):
            gatling.tasks.export(paths, commit, directory, journal.line)
            own = manifest.read(paths.source / directory)
            settings = project_settings.parse(own | context.app.settings)
            context = structs.replace(context, settings=settings)
            published.check_page(gatling, name, commit, context.settings)
            context = structs.replace(context, domains=project_domains.new(gatling, context))
            found = _callbacks(gatling, context, commit, paths.source / directory)
            context.result.callbacks, context.journal.at = found, found.at
        values = config.of_app(gatling.db, name)
        mark, wanted, like = (
            context.deployment.mark,
            context.settings.build,
            _tree_to_share(gatling, name),
        )
        around = _with_toolchain(gatling, context, paths.source / directory)
        waiting.pop_all()  # it is the build's from here
    given = found if found.any else None
    journal.between = "starting mix"
    preload.start()
    branches = {*context.settings.branches, *project_settings.parse(context.app.settings).branches}
    built = builder.build(
        gatling.tasks, around, values, wanted, mark, journal, commit, like, given, early,
        sorted(branches),
    )  # fmt: skip
    with journal.step("store_release"):
        number, newest = next_number(gatling, name)
        size = store.store(paths, built.tree, number, _to_share(gatling, name), also=newest)
        release = _new_release(context, number, commit, built, values, size, own)
        releases.add(gatling.db, release)
        context.callbacks.facts["built_release_path"] = str(paths.release(number))
    context.callbacks.at(*callbacks.AFTER_STORE)
    return context, release


def _with_toolchain(gatling: Gatling, context: Context, project: Path) -> Surroundings:
    """The surroundings of the build, with the toolchain that the project needs.

    A missing one is installed if the operator has allowed that; raises MissingToolchain.
    """
    around = gatling.apps.surroundings(context.app.name)
    asked, wanted = toolchain_files.read(project), context.settings.build.toolchain

    def choose() -> Toolchain | None:
        return early_vm.choose(gatling, around, wanted, asked)

    try:
        chosen = choose()
    except toolchain.MissingToolchain as missing:
        if home_settings.get(gatling.db, order.AUTOMATIC) != "on" or not missing.wanted:
            raise
        mirror = home_settings.get(gatling.db, order.MIRROR) or order.DEFAULT
        before = tuple(each.name for each in gatling.toolchains.installed())
        with context.journal.step("install_toolchain"):
            needed = order.Order(missing.wanted, mirror, present=before)
            try:
                made = gatling.toolchains.install(needed, context.journal.line)
            except (InvalidInput, NotFound, CommandFailed) as error:
                what = f"{missing.what} It could not be installed: {error.what}"
                raise BuildFailed(what, hint=error.hint) from None
        if made.name not in before:
            audit.record(gatling.db, gatling.actor, None, "toolchain install", made.name)
        try:
            chosen = choose()
        except toolchain.MissingToolchain as still:
            raise BuildFailed(
                f"{missing.what} {made.name} is installed for it, but does not fit.",
                hint=f"Name a version in .tool-versions, or install one: `gatling toolchain install"
                f" VERSION`, then `gatling toolchain use {context.app.name} VERSION`.",
            ) from still
    return toolchain.surround(around, gatling.toolchains, chosen)


def _callbacks(gatling: Gatling, context: Context, commit: str, project: Path) -> Callbacks:
    """The callbacks that the project has, with what is known before its build."""
    app, paths = context.app, gatling.home.app(context.app.name)
    found = callbacks.find(project, "deploy" if app.live_release is None else "upgrade")
    for note in found.notes:
        context.progress.note(note)
    if not found.any:
        return Callbacks()
    number, _ = next_number(gatling, app.name)
    facts = {
        "app": app.name,
        "task": found.kind,
        "release": f"v{number}",
        "previous": None if app.live_release is None else f"v{app.live_release}",
        "commit": commit,
        "version": None,
        "strategy": None,
        # one of two, otherwise, as the plan will say
        "port": app.ports[app.free_slot] if app.live_release is None else None,
        "domains": " ".join(app.domains),
        "build_dir": str(project),
        "built_release_path": str(paths.staging),
        "release_dir": str(paths.release(number)),
        "releases": releases.kept_versions(gatling.db, app.name),
    }
    return Callbacks(
        found,
        facts,
        seconds=context.settings.build.timeout,
        armed=lambda: context.interruption.armed,
        note=context.progress.note,
    )


def _tree_to_share(gatling: Gatling, name: str) -> Path | None:
    shared = _to_share(gatling, name)
    return gatling.home.app(name).release(shared) if shared is not None else None


def _to_share(gatling: Gatling, name: str) -> int | None:
    """The release whose files a new one shares: the live one.

    A hot upgrade from it then sees by their inodes what did not change. Nothing live: the newest.
    """
    kept = releases.kept_commits(gatling.db, name)
    live = apps.get(gatling.db, name).live_release
    return live if live in kept else max(kept, default=None)


def next_number(gatling: Gatling, name: str) -> tuple[int, int | None]:
    """The number of the next release and of the newest kept one; leftovers in its place go."""
    kept = list(releases.kept_commits(gatling.db, name))
    store.remove_unknown(gatling.home.app(name), kept)
    return releases.next_number(gatling.db, name), max(kept, default=None)


def _new_release(
    context: Context,
    number: int,
    commit: str,
    built: builder.Built,
    values: Mapping[str, str],
    size: int,
    own: Mapping[str, str],
) -> Release:
    return Release(
        app=context.app.name,
        number=number,
        origin="build",
        base=None,
        commit=commit,
        name=built.name,
        version=built.version,
        elixir=built.elixir,
        otp=built.otp,
        config=dict(values),
        bytes=size,
        created_at=now(),
        removed_at=None,
        manifest=dict(own),
    )
