"""`gatling up`, `down`, `audit`: the home as a whole."""

from __future__ import annotations

import click

from gatling.cli.common import app_option, as_json, created, opened, progress
from gatling.errors import Exit
from gatling.ui.output import echo, print_json, table


@click.command("up")
@click.option(
    "--listen", metavar="[ADDRESS:]PORT",
    help="Address that the proxy listens on (default 127.0.0.1:8080). Not on a server.",
)  # fmt: skip
@click.option(
    "--tls", metavar="[[ADDRESS:]PORT]", is_flag=False, flag_value="auto",
    help="Serve HTTPS as well, at this address (default 127.0.0.1:8443). Not on a server.",
)  # fmt: skip
@click.option("--no-tls", is_flag=True, help="Serve HTTP only again.")
@click.pass_context
def up_command(context: click.Context, listen: str | None, tls: str | None, no_tls: bool) -> None:
    """Start the supervisor, the proxy and all apps that are not stopped.

    The proxy keeps its addresses until you change them. With --tls, Gatling creates a local
    authority and makes certificates with it: see `gatling certificates authority`.

    \b
    Examples:
      gatling up
      gatling up --listen 0.0.0.0:80
      gatling up --tls
      gatling up --tls 127.0.0.1:4443
    """
    from gatling.operations import lifecycle

    if no_tls and tls is not None:
        raise click.UsageError("Give --tls or --no-tls.")
    if no_tls:
        tls = "off"
    with created(lambda gatling: gatling.router.check_listen(listen, tls)) as gatling:
        if not lifecycle.up(gatling, progress(), listen=listen, tls=tls):
            context.exit(int(Exit.UNHEALTHY))


@click.command("down")
def down_command() -> None:
    """Stop all apps, the proxy and the supervisor. `gatling up` starts them again.

    \b
    Example:
      gatling down
    """
    from gatling.operations import lifecycle

    with opened() as gatling:
        lifecycle.down(gatling, progress())


@click.command("recover", hidden=True)
@click.argument("app", metavar="[APP]", required=False)
@click.option(
    "--unfinished",
    is_flag=True,
    help="Recover only apps with a deployment whose process was killed.",
)
@click.option(
    "--units",
    is_flag=True,
    help="Bring the apps' users and units, and authorized_keys, up to date as well.",
)
@click.option("--watch", is_flag=True, help="Watch the release of APP until its time is over.")
def recover_command(app: str | None, unfinished: bool, units: bool, watch: bool) -> None:
    """Finish or undo the deployment of APP whose process was killed. Gatling runs this by itself.

    Without APP: bring what runs of all apps into line with the records, as at boot.

    \b
    Examples:
      gatling recover
      gatling recover shop
    """
    from gatling.deploy import recovery
    from gatling.deploy import watch as background
    from gatling.operations import lifecycle
    from gatling.paths import default_root, exclusively
    from gatling.platform.homes import is_server
    from gatling.platform.open import open_gatling, step_down
    from gatling.runtime import notifying
    from gatling.state import apps

    # the installation of a server calls this first of all, as root: whose home is meant depends on
    # the user
    step_down()
    with open_gatling(create=is_server(default_root())) as gatling:
        if app is not None and watch:
            from gatling.operations import watching

            watching.attend(gatling, app, progress())
            return
        if app is not None:
            apps.get(gatling.db, app)
            recovered = recovery.recover_killed(gatling, app)
            recovery.report(each for each in recovered if each.error is None)
            background.resume(gatling, app)
            for error in (each.error for each in recovered if each.error is not None):
                raise error
            if recovery.is_under_way(gatling, app):
                what = "left alone, because another command is deploying or recovering it"
                echo(f"{app}: {what}", err=True)
            return
        if unfinished:
            recovery.report(recovery.recover_unfinished(gatling))
            gatling.router.tidy_log()
            notifying.look(gatling)
            notifying.soon(gatling)
            background.resume(gatling)
            return
        if units and is_server(gatling.home.root):
            from gatling.operations import keys

            with exclusively(gatling.home, "keys"):  # first: they are let in whatever apps do
                keys.synchronize(gatling.home, gatling.db)
        lifecycle.recover(gatling, progress(), units=units)


@click.command("audit")
@click.argument("app", metavar="[APP]", required=False)
@app_option
@click.option("--all", "every", is_flag=True, help="Show all apps and the host, in a project too.")
@as_json
def audit_command(app: str | None, every: bool, as_json: bool) -> None:
    """Show who changed what, newest first.

    In a project, only the changes of its app are shown, unless you give --all.

    \b
    Examples:
      gatling audit shop
      gatling audit --all
    """
    from gatling.operations import audit

    if app is not None and every:
        raise click.UsageError("Give an app, or --all.")
    with opened() as gatling:
        found = audit.latest(gatling, app)
    if as_json:
        print_json(found)
    else:
        rows = [(e.at, e.actor, e.app, e.action, e.detail) for e in found]
        table(("at", "by", "app", "action", "detail"), rows)
