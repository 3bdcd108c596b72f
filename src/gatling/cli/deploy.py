"""`gatling deploy`, `rollback`, `restart`, `start`, `stop`."""

from __future__ import annotations

import click

from gatling.cli.common import (
    app_argument,
    opened,
    progress,
    rehearse_option,
    release_argument,
    strategy_option,
)


@click.command("deploy")
@app_argument
@click.argument("what", metavar="[RELEASE|COMMIT]", required=False)
@strategy_option
@rehearse_option
def deploy_command(app: str, what: str | None, strategy: str | None, rehearse: bool) -> None:
    """Deploy a kept release (v7), or build a commit, branch or tag that was pushed.

    Without either: the head of the deploy branch, built again.

    \b
    Examples:
      gatling deploy shop v7
      gatling deploy shop 3f2a91c --strategy rolling
      gatling deploy shop v7 --rehearse
    """
    from gatling.deploy import deployment
    from gatling.project import settings, source
    from gatling.state import apps

    wish = deployment.Wish(strategy, rehearse)
    with opened() as engine:
        found = apps.get(engine.db, app)
        number = release_argument(what) if what is not None else None
        if number is not None:
            deployment.deploy_release(
                engine,
                app,
                number,
                cause=f"deploy v{number}",
                progress=progress(),
                wish=wish,
            )
            return
        repository = engine.home.app(app).repository
        if what is not None:
            commit = source.resolve(repository, what)
        else:
            commit = source.branch_head(repository, settings.parse(found.effective).branches)
        deployment.deploy_commit(
            engine, app, commit, cause="deploy", progress=progress(), wish=wish
        )


@click.command("rollback")
@app_argument
@click.argument("release", metavar="[RELEASE]", required=False)
@strategy_option
@rehearse_option
def rollback_command(app: str, release: str | None, strategy: str | None, rehearse: bool) -> None:
    """Go back to RELEASE, or to the one that was live before; its config comes back with it.

    \b
    Examples:
      gatling rollback shop
      gatling rollback shop v4
    """
    from gatling.deploy import deployment
    from gatling.errors import InvalidInput
    from gatling.project import names

    with opened() as engine:
        wish = names.release_number(release) if release is not None else None
        if release is not None and wish is None:
            raise InvalidInput(f"{release!r} is not a release.", hint="For example v4.")
        number = deployment.rollback_target(engine, app, wish)
        deployment.deploy_release(
            engine,
            app,
            number,
            cause=f"rollback to v{number}",
            progress=progress(),
            wish=deployment.Wish(strategy, rehearse),
        )


@click.command("restart")
@app_argument
def restart_command(app: str) -> None:
    """Start the live release anew, beside itself, and switch to the new instance.

    \b
    Example:
      gatling restart shop
    """
    from gatling.deploy import deployment

    with opened() as engine:
        deployment.restart(engine, app, progress=progress())


@click.command("start")
@app_argument
def start_command(app: str) -> None:
    """Start APP after `gatling stop`.

    \b
    Example:
      gatling start shop
    """
    from gatling.deploy import lifecycle, lock
    from gatling.state import apps

    with opened() as engine:
        lifecycle.ensure_up(engine, progress())
        with lock.hold(engine.home.app(apps.get(engine.db, app).name).lock, _waiting):
            lifecycle.start(engine, apps.get(engine.db, app))
        click.echo(f"{app} is running.")


@click.command("stop")
@app_argument
def stop_command(app: str) -> None:
    """Stop APP; its domains answer 503 until it is started or deployed again.

    \b
    Example:
      gatling stop shop
    """
    from gatling.deploy import lifecycle, lock
    from gatling.state import apps

    with opened() as engine:
        with lock.hold(engine.home.app(apps.get(engine.db, app).name).lock, _waiting):
            lifecycle.stop(engine, apps.get(engine.db, app))
        click.echo(f"{app} is stopped.")


def _waiting() -> None:
    click.echo("waiting for the deployment under way", err=True)
