"""`gatling deploy`, `rollback`, `restart`, `start`, `stop`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling.cli import rewind
from gatling.cli.common import (
    app_argument,
    confirm,
    confirm_option,
    opened,
    progress,
    rehearse_option,
    release_argument,
    strategy_option,
)
from gatling.ui.output import echo

if TYPE_CHECKING:
    from gatling.platform.open import Gatling


@click.command("deploy")
@app_argument
@click.argument("what", metavar="[RELEASE|COMMIT]", required=False)
@strategy_option
@rehearse_option
@confirm_option
def deploy_command(
    app: str, what: str | None, strategy: str | None, rehearse: bool, given: str | None
) -> None:
    """Deploy a retained release (v7), or build a commit, branch or tag that was pushed.

    The default is the head of the deploy branch, built again. For a push, `git push -o rehearse`
    does what --rehearse does here.

    \b
    Examples:
      gatling deploy shop v7
      gatling deploy shop 3f2a91c --strategy rolling
      gatling deploy shop v7 --rehearse
    """
    from gatling.deploy.wish import Wish
    from gatling.operations import deploys
    from gatling.project import settings, source
    from gatling.state import apps

    wish = Wish(strategy, rehearse)
    with opened(app, clusters=True) as gatling:
        found = apps.get(gatling.db, app)
        number = release_argument(what) if what is not None else None
        if number is not None:
            _ask_about_migrations(gatling, app, number, given)
            deploys.deploy_release(
                gatling,
                app,
                number,
                cause=f"deploy v{number}",
                progress=progress(),
                wish=wish,
            )
            return
        repository = gatling.home.app(app).repository
        if what is not None:
            commit = source.resolve(repository, what)
        else:
            commit = source.branch_head(repository, settings.parse(found.effective).branches)
        deploys.deploy_commit(gatling, app, commit, cause="deploy", progress=progress(), wish=wish)


@click.command("rollback")
@app_argument
@click.argument("release", metavar="[RELEASE]", required=False)
@strategy_option
@rehearse_option
@click.option(
    "--with-data", is_flag=True,
    help="Go back to the data of that time as well, in a new database.",
)  # fmt: skip
@confirm_option
def rollback_command(
    app: str, release: str | None, strategy: str | None, rehearse: bool, with_data: bool,
    given: str | None,
) -> None:  # fmt: skip
    """Make RELEASE, or the previous release, live again, with the config that it had.

    The database is not changed. If releases in between have migrations, you are asked first.

    With --with-data, the database is restored as it was before the migrations of the releases in
    between, as a new database. You see what was written since, and are asked. The release is
    deployed on the restored database, and both change together once it is healthy. The database of
    before is kept, and a rollback to the release of before goes back to both.

    \b
    Examples:
      gatling rollback shop
      gatling rollback shop v4
      gatling rollback shop v4 --confirm shop
      gatling rollback shop v4 --with-data
    """
    from gatling import names
    from gatling.deploy.wish import Wish
    from gatling.errors import InvalidInput
    from gatling.operations import deploys

    with opened(app, clusters=True) as gatling:
        wish = names.release_number(release) if release is not None else None
        if release is not None and wish is None:
            raise InvalidInput(f"{release!r} is not a release.", hint="For example v4.")
        if with_data:
            rewind.run(gatling, app, wish, given, Wish(strategy, rehearse))
            return
        number = deploys.rollback_target(gatling, app, wish)
        _ask_about_migrations(gatling, app, number, given)
        deploys.deploy_release(
            gatling,
            app,
            number,
            cause=f"rollback to v{number}",
            progress=progress(),
            wish=Wish(strategy, rehearse),
        )


@click.command("restart")
@app_argument
@click.option("--process", metavar="NAME", help="Restart only this one: worker, or worker.1.")
def restart_command(app: str, process: str | None) -> None:
    """Replace the running instance with a new instance of the live release.

    Its workers are stopped and started again.

    \b
    Examples:
      gatling restart shop
      gatling restart shop --process worker
    """
    from gatling.operations import deploys, processes

    with opened(app, clusters=True) as gatling:
        if process is None:
            deploys.restart(gatling, app, progress=progress())
        else:
            processes.restart(gatling, app, process, progress=progress())


@click.command("start")
@app_argument
def start_command(app: str) -> None:
    """Start APP after `gatling stop`.

    \b
    Example:
      gatling start shop
    """
    from gatling.operations import lifecycle
    from gatling.platform import lock
    from gatling.state import apps

    with opened(app, clusters=True) as gatling:
        lifecycle.ensure_up(gatling, progress(), app)
        with lock.hold(gatling.home.app(apps.get(gatling.db, app).name).lock, _waiting):
            for problem in lifecycle.start(gatling, apps.get(gatling.db, app)):
                echo(problem, err=True)
        echo(f"{app} is running.")


@click.command("stop")
@app_argument
def stop_command(app: str) -> None:
    """Stop APP. Its domains answer 503 until you start or deploy it again.

    \b
    Example:
      gatling stop shop
    """
    from gatling.operations import lifecycle
    from gatling.platform import lock
    from gatling.state import apps

    with opened(app, clusters=True) as gatling:
        with lock.hold(gatling.home.app(apps.get(gatling.db, app).name).lock, _waiting):
            lifecycle.stop(gatling, apps.get(gatling.db, app))
        echo(f"{app} is stopped.")


def _ask_about_migrations(gatling: Gatling, app: str, number: int, given: str | None) -> None:
    """Ask before a release goes live that does not know what the live one has migrated."""
    from gatling.operations import deploys

    passed = deploys.passed_migrations(gatling, app, number)
    if passed:
        confirm(
            app,
            given,
            f"Deploy v{number} on a database with migrations that it does not have"
            f" ({', '.join(passed)})? They stay applied.",
        )


def _waiting() -> None:
    echo("waiting for the deployment in progress", err=True)
