"""`gatling db …`: PostgreSQL databases of apps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from msgspec import structs

from gatling import names
from gatling.cli import db_backups, db_fork, db_pool, db_repository, db_upgrade, db_volume
from gatling.cli.common import (
    DATABASES,
    app_argument,
    as_json,
    confirm,
    database_option,
    no_restart_option,
    opened,
    progress,
)
from gatling.cli.groups import Group
from gatling.cli.visitor import is_shown, may_install
from gatling.text import counted
from gatling.ui.output import ago, echo, fields, print_json, size, table

if TYPE_CHECKING:
    from gatling.operations.databases import DatabaseEntry
    from gatling.platform.postgres.clusters import Facts
    from gatling.state.former_clusters import Former

variable_option = click.option(
    "--as", "variable", metavar="VARIABLE",
    help="The config variable for the URL. Default: DATABASE_URL, or NAME_DATABASE_URL with a name"
    " of its own.",
)  # fmt: skip
replace_option = click.option(
    "--replace", is_flag=True, help="Replace a variable that has another value."
)


@click.group("db", cls=Group)
def db_command() -> None:
    """Manage PostgreSQL databases of apps on this host.

    Each database is a PostgreSQL cluster of its own. An app connects over a unix socket, without a
    password, with its own system user as the role. Nothing listens on the network.

    \b
    Examples:
      gatling db create shop
      gatling db psql shop
    """


for _command in (
    *db_backups.COMMANDS,
    *db_fork.COMMANDS,
    db_pool.pool_command,
    db_repository.repository_command,
    db_upgrade.upgrade_command,
    db_volume.volume_command,
):
    db_command.add_command(_command)


@db_command.command("create")
@app_argument
@database_option
@click.option("--version", metavar="MAJOR", help="The major version of PostgreSQL, such as 17.")
@variable_option
@replace_option
@no_restart_option
@as_json
def create_command(
    app: str, name: str | None, version: str | None, variable: str | None,
    replace: bool, no_restart: bool, as_json: bool,
) -> None:  # fmt: skip
    """Create a database for APP, and set DATABASE_URL to its URL.

    If this host has no PostgreSQL, it is installed from the distribution first. A variable that
    has another value, such as the URL of an external database, is only changed with --replace.
    A creation that was interrupted is completed by the same command.

    \b
    Examples:
      gatling db create shop
      gatling db create shop --version 17 --no-restart
      gatling db create shop --name shop-events --as EVENTS_URL
    """
    from gatling.operations import databases
    from gatling.platform.postgres import clusters

    want = databases.wanted(app, name, variable, replace=replace, restart=not no_restart)
    number = clusters.version(version) if version is not None else None
    with opened(app, instead=DATABASES) as gatling:
        done = databases.create(gatling, want, progress(), version=number,
                                may_install=may_install())  # fmt: skip
    if as_json:
        print_json(done)
    elif done.changed:
        echo(f"{done.database} runs PostgreSQL {done.version}. {app} has its URL as"
             f" {done.variable}.")  # fmt: skip
    else:
        echo(f"{done.database} already exists, and {app} has its URL as {done.variable}.")


@db_command.command("list")
@as_json
def list_command(as_json: bool) -> None:
    """List the databases of this host, with the apps that use them.

    \b
    Example:
      gatling db list
    """
    from gatling.operations import databases

    with opened() as gatling:
        found = databases.every(gatling, is_shown)
    if as_json:
        print_json(found)
        return
    if not found:
        echo("There is no database. `gatling db create APP` creates one.")
        return
    table(
        ("database", "app", "postgresql", "used by", "state", "created"),
        [(one.name, one.app or "–", str(one.version),
          ", ".join(use.app if use.access == "write" else f"{use.app} (read-only)"
                    for use in one.used_by),
          _kind(one), ago(one.created_at)) for one in found],
        cut=("used by",), drop=("created",),
    )  # fmt: skip


@db_command.command("info")
@app_argument
@database_option
@as_json
def info_command(app: str, name: str | None, as_json: bool) -> None:
    """Show a database of APP: version, size, connections, and the apps that use it.

    The sizes of a day and a week ago are shown where they were recorded: with each backup, and
    every hour while `gatling watch` is on.

    \b
    Example:
      gatling db info shop
    """
    from gatling.operations import databases, growth

    with opened() as gatling:
        found = databases.visible(databases.info(gatling, app, name), is_shown)
        past = growth.of(gatling, found.name)
    if as_json:
        print_json(structs.asdict(found) | {"growth": past})
        return
    rows: list[tuple[str, object]] = [
        ("database", found.name),
        ("state", found.state),
        ("fork of", found.fork_of),
        ("created for", found.app),
        ("created", ago(found.created_at)),
    ]
    if (facts := found.facts) is not None:
        hits, most = facts.cache_hits, facts.max_connections
        rows += [
            ("postgresql", facts.version),
            ("size", size(facts.bytes)),
            ("a day ago", _compared(past.day_ago, facts.bytes)),
            ("a week ago", _compared(past.week_ago, facts.bytes)),
            ("connections", f"{facts.connections} of {most}, {facts.active} active"),
            ("longest query", _seconds(facts.longest_query)),
            ("oldest transaction", _seconds(facts.longest_transaction)),
            ("cache hits", None if hits is None else f"{100 * hits:.1f}%"),
            ("deleted rows", f"{size(facts.dead_bytes)} (estimate)"),
            ("write-ahead log", _log(facts)),
            ("transaction numbers", f"{100 * facts.age:.1f}% used"),
            ("free on the disk", size(facts.free_bytes)),
            ("started", ago(facts.started_at)),
        ]
    rows += [("kept cluster", f"PostgreSQL {one.version}, {_former(one)}") for one in found.earlier]
    rows += [(f"used by {use.app}", f"{use.variable}, {use.access}") for use in found.used_by]
    rows += [(f"pool of {one.app}", f"{one.variable}, up to {counted(one.size, 'connection')}")
             for one in found.pools]  # fmt: skip
    fields(rows)
    for what, hint in found.faults:
        echo(f"{what}\n  {hint}", err=True)


def _former(one: Former) -> str:
    """The reason for which a cluster is stopped and kept."""
    return f"{'the upgrade to it was undone' if one.undone else 'upgraded'} {ago(one.at)}"


def _compared(before: int | None, now: int) -> str | None:
    """An earlier size, and by how much it has changed since."""
    if before is None:
        return None
    sign = "+" if now >= before else "-"
    return f"{size(before)}, {sign}{size(abs(now - before))} since"


def _kind(one: DatabaseEntry) -> str:
    return f"fork of {one.fork_of}" if one.fork_of and one.state == "ready" else one.state


def _seconds(seconds: float) -> str | None:
    return f"{seconds:.1f} s" if seconds else None


def _log(facts: Facts) -> str:
    """The size of the log, and what keeps it from being removed."""
    waiting = facts.log_waiting
    kept = f", {counted(waiting, 'segment')} to be archived" if waiting else ""
    slot = f", {size(facts.slot_bytes)} kept by a replication slot" if facts.slot_bytes else ""
    return f"{size(facts.log_bytes)}{kept}{slot}"


@db_command.command("psql")
@app_argument
@database_option
@click.argument("arguments", metavar="[-- ARGS...]", nargs=-1, type=click.UNPROCESSED)
def psql_command(app: str, name: str | None, arguments: tuple[str, ...]) -> None:
    """Open psql in a database of APP, with the rights of the app. ARGS go to psql.

    \b
    Examples:
      gatling db psql shop
      gatling db psql shop -- -c 'SELECT count(*) FROM orders'
    """
    from gatling.operations import databases

    with opened(app, instead=DATABASES) as gatling:
        task = databases.shell(gatling, app, name, arguments)
    terminal = {key: os.environ[key] for key in ("TERM", "COLUMNS", "LINES") if key in os.environ}
    gatling.tasks.become(structs.replace(task, env=task.env | terminal))


@db_command.command("attach")
@app_argument
@click.argument("other_app")
@database_option
@variable_option
@replace_option
@click.option("--read-only", is_flag=True, help="Let APP read all tables, and change nothing.")
@no_restart_option
@as_json
def attach_command(
    app: str, other_app: str, name: str | None, variable: str | None,
    replace: bool, read_only: bool, no_restart: bool, as_json: bool,
) -> None:  # fmt: skip
    """Let APP use a database of OTHER_APP, too.

    An app that was removed leaves its databases. They can be attached again by its name.

    \b
    Examples:
      gatling db attach reports shop --read-only
      gatling db attach admin shop --as SHOP_URL
    """
    from gatling.operations import databases

    with opened(app, instead=DATABASES) as gatling:
        database = databases.find(gatling, names.app_name(other_app), name)
        want = databases.wanted(app, database, variable, replace=replace, restart=not no_restart)
        done = databases.attach(gatling, want, "read" if read_only else "write", progress())
    if as_json:
        print_json(done)
    elif done.changed:
        how = " (read-only)" if read_only else ""
        echo(f"{app} has the URL of {done.database} as {done.variable}{how}.")
    else:
        echo(f"{app} already uses {done.database}.")


@db_command.command("detach")
@app_argument
@database_option
@no_restart_option
def detach_command(app: str, name: str | None, no_restart: bool) -> None:
    """End the use of a database by APP. The database and its data stay.

    \b
    Example:
      gatling db detach reports --name shop
    """
    from gatling.operations import databases

    with opened(app, instead=DATABASES) as gatling:
        done = databases.detach(gatling, app, name, progress(), restart=not no_restart)
    echo(f"{app} no longer uses {done}. The database stays.")


@db_command.command("destroy")
@app_argument
@database_option
@click.option(
    "--confirm", "given", metavar="DATABASE",
    help="Confirm without a prompt by repeating the database's name.",
)  # fmt: skip
def destroy_command(app: str, name: str | None, given: str | None) -> None:
    """Remove a database of APP, and keep a last copy of it.

    The copy is a dump that is compared with the database, table by table, before anything is
    removed. `pg_restore` reads it. The clusters that `gatling db upgrade` has kept are removed as
    well. A copy is kept of each that has data of its own, because its upgrade was undone.

    \b
    Example:
      gatling db destroy shop --confirm shop
    """
    from gatling.operations import destroying
    from gatling.state import former_clusters

    with opened(app, instead=DATABASES) as gatling:
        database = destroying.check(gatling, app, name)
        others = _versions(former_clusters.of(gatling.db, database))
        confirm(database, given, f"Remove the database {database} of {app}? The running app loses"
                                 " it immediately. A last copy is kept on this host."
                                 + (f" {others} that upgrades have kept goes as well."
                                    if others else ""))  # fmt: skip
        done = destroying.destroy(gatling, app, name, progress())
    echo(f"{done.database} was removed.")
    if done.kept:
        echo(f"Its last copy is {done.kept} (a dump for pg_restore).")
    for one in done.earlier:
        copy = f" A copy of it is {one.kept}." if one.kept else ""
        echo(
            f"Its cluster with PostgreSQL {one.version}, which was kept, was removed as well.{copy}"
        )


def _versions(former: list[Former]) -> str:
    """The clusters of a database that upgrades have kept, in words; empty: none."""
    return ", ".join(f"Its cluster with PostgreSQL {one.version}" for one in former)
