"""The domains that a project names itself. They are added with the release that first names them.

Only what is new in the file is added, so that what an operator has removed stays so.
The module also writes the message about PHX_HOST when an app's domains change.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.cleanup import cleaning
from gatling.deploy.run import is_decided
from gatling.project import domains as project_domains
from gatling.project import source
from gatling.state import apps, audit, config, domains, releases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.deploy.context import Context
    from gatling.platform.open import Gatling
    from gatling.state.apps import App


def new(gatling: Gatling, context: Context) -> tuple[str, ...]:
    """Domains in the exported source's file that the app has not, nor the live release's file had.

    Raises InvalidManifest, and InvalidInput for a domain of another app.
    """
    paths, directory = gatling.home.app(context.app.name), context.settings.build.directory
    named = project_domains.read(paths.source / directory)
    if named and context.app.live_release is not None:
        live = releases.get(gatling.db, context.app.name, context.app.live_release)
        path = "/".join(filter(None, (directory, project_domains.NAME)))
        raw = source.file_at(paths.repository, live.commit, path, project_domains.MAX_BYTES)
        known = project_domains.parse(raw or b"")
        named = tuple(domain for domain in named if domain not in known)
    named = tuple(domain for domain in named if domain not in context.app.domains)
    for domain in named:
        domains.check(gatling.db, context.app.name, domain)
    return named


def host_told(gatling: Gatling, before: App, after: App) -> str | None:
    """Describe what a change of domains means for PHX_HOST, with advice; None: nothing.

    It matters because Phoenix takes websockets from pages of that host alone.
    """
    added = [domain for domain in after.domains if domain not in before.domains]
    others = (
        f"Phoenix refuses websockets from {', '.join(added)}"
        " unless its endpoint's check_origin allows them"
    )
    if "PHX_HOST" in config.of_app(gatling.db, after.name):
        return f"PHX_HOST keeps the value set with `gatling config`. {others}." if added else None
    if after.primary_domain == before.primary_domain:
        change = f"`gatling config set {after.name} PHX_HOST=DOMAIN` chooses another domain"
        return f"PHX_HOST stays {after.primary_domain}. {others}; {change}." if added else None
    if after.live_release is None:
        return f"PHX_HOST is {after.primary_domain}."
    return (
        f"PHX_HOST is {after.primary_domain} after the next start: run `gatling restart"
        f" {after.name}`. Until then, Phoenix refuses WebSocket connections from that domain."
    )


@contextlib.contextmanager
def in_force(gatling: Gatling, context: Context) -> Iterator[Context]:
    """Serve the app under the deployment's new domains, unless the deployment fails.

    Changes that an operator makes during the deployment stay: only domains that were added here
    are taken back. Recovery takes them back when the deploying process is killed.
    """
    before, db = context.app, gatling.db
    if not context.domains:
        yield context
        return
    # the first one is the PHX_HOST: it is the project's unless somebody has said something else
    first = before.live_release is None
    added = domains.add_all(
        db, before.name, context.domains, before_its_own=first, deployment=context.deployment.id
    )
    try:
        if before.platform is None:
            gatling.configure_router()
        app = structs.replace(before, domains=apps.get(db, before.name).domains)
        context = structs.replace(context, app=app)
        context.callbacks.facts["domains"] = " ".join(context.app.domains)
        context.progress.note(f"also served under {', '.join(context.domains)} (domains)")
        yield context
    except BaseException as error:
        if not is_decided(gatling, context):
            _take_back(gatling, context, error)
        raise
    audit.record(db, gatling.actor, before.name, "domains add", " ".join(added))
    if before.platform is None:
        from gatling.runtime import obtaining

        obtaining.later(gatling, before.name)
    after = apps.get(db, before.name)
    # the same instance goes on, with the PHX_HOST that it was started with
    if after.live_slot == before.live_slot and (told := host_told(gatling, before, after)):
        context.progress.note(told)


def _take_back(gatling: Gatling, context: Context, error: BaseException) -> None:
    with cleaning(error):
        domains.take_back_of(gatling.db, context.app.name, context.deployment.id)
        gatling.configure_router()
