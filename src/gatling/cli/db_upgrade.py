"""`gatling db upgrade`: another major version of PostgreSQL, and the way back."""

from __future__ import annotations

import click

from gatling.cli.common import (
    DATABASES,
    app_argument,
    as_json,
    confirm,
    database_option,
    opened,
    progress,
)
from gatling.cli.visitor import may_install
from gatling.errors import Misused
from gatling.text import counted
from gatling.ui.output import ago, echo, print_json


@click.command("upgrade")
@app_argument
@database_option
@click.option("--to", "version", metavar="MAJOR", help="The major version, such as 17.")
@click.option("--rehearse", is_flag=True, help="Upgrade and compare a copy only.")
@click.option("--undo", is_flag=True, help="Return to the cluster of before the last upgrade.")
@click.option(
    "--confirm", "given", metavar="DATABASE",
    help="Confirm --undo without a prompt by repeating the database's name.",
)  # fmt: skip
@as_json
def upgrade_command(
    app: str, name: str | None, version: str | None, rehearse: bool, undo: bool,
    given: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Upgrade a database of APP to another major version of PostgreSQL.

    The upgrade is rehearsed first: pg_upgrade upgrades a copy, and definitions, rows and checksums
    of both are compared. Then the database is stopped, upgraded and compared in the same way, and
    started. APP needs no restart: its connections are opened again. The cluster of before stays,
    stopped, and --undo returns to it.

    \b
    Examples:
      gatling db upgrade shop --to 17 --rehearse
      gatling db upgrade shop --to 17
      gatling db upgrade shop --undo --confirm shop
    """
    from gatling.operations import databases, upgrading
    from gatling.platform.postgres import clusters

    if undo == (version is not None) or (undo and rehearse):
        raise Misused("Use either --to MAJOR or --undo.")
    if undo:
        with opened(app, instead=DATABASES) as gatling:
            former, found = (
                upgrading.before(gatling, app, name), databases.chosen(gatling, app, name)
            )  # fmt: skip
            confirm(found.name, given, f"Return {found.name} to PostgreSQL {former.version}, as it"
                                       f" was {ago(former.at)}? What was written since is lost to"
                                       " the app.")  # fmt: skip
            back = upgrading.undo(gatling, app, name)
        if as_json:
            print_json(back)
            return
        echo(f"{back.database} runs PostgreSQL {back.version} again, as it was before the upgrade."
             f" It could not be used for {back.outage_seconds:.1f} s.")  # fmt: skip
        echo(f"The cluster with PostgreSQL {back.before} is stopped and stays on this host.")
        return
    number = clusters.version(version or "")
    with opened(app, instead=DATABASES) as gatling:
        if rehearse:
            tried = upgrading.rehearse(gatling, app, name, number, progress(),
                                       may_install=may_install())  # fmt: skip
        else:
            done = upgrading.upgrade(gatling, app, name, number, progress(),
                                     may_install=may_install())  # fmt: skip
    if as_json:
        print_json(tried if rehearse else done)
    elif rehearse:
        echo(f"A copy of {tried.database} was upgraded to PostgreSQL {tried.version} in"
             f" {tried.seconds:.1f} s: {counted(tried.tables, 'table')} with"
             f" {counted(tried.rows, 'row')} are as in the database.")  # fmt: skip
    else:
        echo(f"{done.database} runs PostgreSQL {done.version}: {counted(done.tables, 'table')} with"
             f" {counted(done.rows, 'row')} are as before. It could not be used for"
             f" {done.outage_seconds:.1f} s.")  # fmt: skip
        echo(f"The cluster with PostgreSQL {done.before} is stopped and stays:"
             f" `gatling db upgrade {app} --undo` returns to it. The next backup is a full one:"
             f" `gatling db backup {app}`.")  # fmt: skip
