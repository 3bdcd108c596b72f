"""`gatling db pool`: a pool of connections between an app and its database."""

from __future__ import annotations

import click

from gatling.cli.common import (
    DATABASES,
    app_argument,
    as_json,
    database_option,
    no_restart_option,
    opened,
    progress,
)
from gatling.cli.visitor import may_install
from gatling.errors import Misused
from gatling.text import counted
from gatling.ui.output import echo, print_json


@click.command("pool")
@app_argument
@database_option
@click.option(
    "--size", metavar="N",
    help="The number of connections that the pool opens to the database. Default: 20.",
)  # fmt: skip
@click.option("--off", is_flag=True, help="Use the database without a pool again.")
@no_restart_option
@as_json
def pool_command(
    app: str, name: str | None, size: str | None, off: bool, no_restart: bool, as_json: bool
) -> None:
    """Put a pool of connections (PgBouncer) between APP and a database.

    DATABASE_CONNECTION_POOL_URL gets the URL of the pool. DATABASE_URL stays the URL of the
    database itself, which LISTEN and session settings need. Migrations and `gatling run` get the
    direct URL in both variables.

    All nodes of APP share the connections of the pool: both instances of a rolling deployment and
    all workers. A connection is lent for one transaction at a time. The same command with another
    size changes the size without a deployment. If this host has no PgBouncer, it is installed from
    the distribution first.

    \b
    Examples:
      gatling db pool shop
      gatling db pool shop --size 40
      gatling db pool shop --off
    """
    from gatling.operations import pools
    from gatling.platform.postgres import pooler

    if off:
        if size is not None or no_restart or as_json:
            raise Misused("--off goes with no other option but --name.")
        with opened(app, instead=DATABASES) as gatling:
            database = pools.turn_off(gatling, app, name, progress())
        echo(f"{app} uses {database} without a pool.")
        return
    wanted = None if size is None else pooler.size(size)
    with opened(app, instead=DATABASES) as gatling:
        done = pools.turn_on(gatling, app, name, wanted, progress(), may_install=may_install(),
                             restart=not no_restart)  # fmt: skip
    if as_json:
        print_json(done)
        return
    echo(f"{app} has a pool of {counted(done.size, 'connection')} to {done.database}. Its URL is"
         f" {done.variable}, and {done.direct} stays the direct one.")  # fmt: skip
    for note in pools.notes(done):
        echo(note)
