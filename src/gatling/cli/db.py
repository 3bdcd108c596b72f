"""`gatling db …`: PostgreSQL databases of apps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from msgspec import structs

from gatling import names
from gatling.cli.common import app_argument, as_json, confirm, opened, progress
from gatling.cli.groups import Group
from gatling.cli.visitor import is_shown
from gatling.errors import Exit, Misused
from gatling.text import counted
from gatling.ui.output import ago, echo, fields, print_json, size, table

if TYPE_CHECKING:
    from gatling.operations.databases import Shown

name_option = click.option("--name", metavar="NAME", help="The database. Default: the app's name.")
variable_option = click.option(
    "--as", "variable", metavar="VARIABLE",
    help="The config variable for the URL. Default: DATABASE_URL, or NAME_DATABASE_URL with a name"
    " of its own.",
)  # fmt: skip
replace_option = click.option(
    "--replace", is_flag=True, help="Replace a variable that has another value."
)
no_restart = click.option(
    "--no-restart", is_flag=True, help="Leave the running release alone until the next deployment."
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


@db_command.command("create")
@app_argument
@name_option
@click.option("--version", metavar="MAJOR", help="The major version of PostgreSQL, such as 17.")
@variable_option
@replace_option
@no_restart
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
    with opened(app) as gatling:
        done = databases.create(gatling, want, progress(), version=number,
                                may_install=_may_install())  # fmt: skip
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
        every = [_visible(one) for one in databases.every(gatling)]
    found = [one for one in every if one.app or one.used_by or is_shown("")]
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
          one.state, ago(one.created_at)) for one in found],
        cut=("used by",), drop=("created",),
    )  # fmt: skip


@db_command.command("info")
@app_argument
@name_option
@as_json
def info_command(app: str, name: str | None, as_json: bool) -> None:
    """Show a database of APP: version, size, connections, and the apps that use it.

    \b
    Example:
      gatling db info shop
    """
    from gatling.operations import databases

    with opened() as gatling:
        found = _visible(databases.info(gatling, app, name))
    if as_json:
        print_json(found)
        return
    rows: list[tuple[str, object]] = [
        ("database", found.name),
        ("state", found.state),
        ("created for", found.app),
        ("created", ago(found.created_at)),
    ]
    if (facts := found.facts) is not None:
        hits, most = facts.cache_hits, facts.max_connections
        rows += [
            ("postgresql", facts.version),
            ("size", size(facts.bytes)),
            ("connections", f"{facts.connections} of {most}, {facts.active} active"),
            ("longest query", f"{facts.longest_query:.1f} s" if facts.longest_query else None),
            ("cache hits", None if hits is None else f"{100 * hits:.1f}%"),
            ("started", ago(facts.started_at)),
        ]
    rows += [(f"used by {use.app}", f"{use.variable}, {use.access}") for use in found.used_by]
    fields(rows)


@db_command.command("backup")
@app_argument
@name_option
@click.option("--full", is_flag=True, help="Copy everything, and not only changes.")
@as_json
def backup_command(app: str, name: str | None, full: bool, as_json: bool) -> None:
    """Back a database of APP up, and prove the backup.

    The backup is restored into a throw-away cluster. Its definitions, the rows of all tables and
    the checksums of all pages are compared with the database. Old backups are removed once a newer
    one is proved: all full backups of 14 days stay, and at least two.

    \b
    Examples:
      gatling db backup shop
      gatling db backup shop --full
    """
    from gatling.operations import backups

    with opened(app) as gatling:
        done = backups.make(gatling, app, name, progress(), full=full, may_install=_may_install())
    if as_json:
        print_json(done)
        return
    made = done.backup
    echo(f"{made.label} of {made.database} is proved: {counted(made.tables, 'table')} with"
         f" {counted(made.rows, 'row')} are as in the database.")  # fmt: skip
    if done.written:
        echo(f"{counted(done.written, 'table')} of them were written to during the comparison:"
             " their numbers of rows were compared roughly.")  # fmt: skip
    count, _, newest = done.migrations.partition("|")
    if newest:
        echo(f"{counted(int(count), 'migration')}, the newest is {newest}.")
    echo(f"{size(made.bytes)}, stored as {size(made.stored)}. Backup {done.backup_seconds:.0f} s,"
         f" proof {done.proof_seconds:.0f} s.")  # fmt: skip


@db_command.command("backups")
@app_argument
@name_option
@as_json
def backups_command(app: str, name: str | None, as_json: bool) -> None:
    """List the backups of a database of APP, and whether they are proved.

    \b
    Example:
      gatling db backups shop
    """
    from gatling.operations import backups

    with opened() as gatling:
        found = backups.every(gatling, app, name)
    if as_json:
        print_json(found)
        return
    if not found:
        echo(f"There is no backup. `gatling db backup {app}` creates one.")
        return
    table(
        ("backup", "kind", "made", "size", "stored", "state", "proof"),
        [(one.label, one.kind, ago(one.made_at), size(one.bytes), size(one.stored), one.state,
          one.reason or (f"{counted(one.tables, 'table')}, {counted(one.rows, 'row')}"
                         if one.state == "proved" else "–")) for one in found],
        cut=("proof",), drop=("size",),
    )  # fmt: skip


@db_command.command("schedule")
@app_argument
@name_option
@click.option("--at", metavar="HH:MM", help="The time of the daily backup.")
@click.option("--off", is_flag=True, help="End the daily backup.")
@click.option("--keep", "count", type=int, metavar="COUNT", help="Full backups that stay.")
@click.option("--days", type=int, help="The age up to which all full backups stay.")
@as_json
def schedule_command(
    app: str, name: str | None, at: str | None, off: bool, count: int | None, days: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Back a database of APP up every day, or show when that is done.

    The time is that of this host. A backup that was missed is made late, and a failed one is tried
    again after an hour. A backup is removed if it is older than --days and --keep newer full ones
    exist, but never the newest that is proved.

    \b
    Examples:
      gatling db schedule shop --at 03:15
      gatling db schedule shop --keep 4 --days 28
      gatling db schedule shop --off
      gatling db schedule shop
    """
    from gatling.operations import backups

    if off and at is not None:
        raise Misused("--at and --off exclude each other.")
    with opened(app) as gatling:
        plan = backups.schedule(gatling, app, name, at="" if off else at, count=count, days=days)
    if as_json:
        print_json(plan)
        return
    when = f"is backed up every day at {plan.at}" if plan.at else "is not backed up on a schedule"
    echo(f"{plan.database} {when}. All full backups of {counted(plan.days, 'day')} stay, and at"
         f" least {plan.count}.")  # fmt: skip


@db_command.command("scheduled", hidden=True)
def scheduled_command() -> None:
    """Make the backups that are due. Gatling runs this by itself.

    \b
    Example:
      gatling db scheduled
    """
    from gatling.operations import backups

    with opened() as gatling:
        failed = backups.scheduled(gatling, progress())
    if failed:
        raise SystemExit(Exit.UNHEALTHY)


@db_command.command("restore")
@app_argument
@name_option
@click.option("--to", metavar="TIME", help="The time, such as '2026-01-31 14:05:00'. Default: now.")
@click.option("--as", "new", metavar="NAME", help="The new database. Default: NAME-restored.")
@as_json
def restore_command(
    app: str, name: str | None, to: str | None, new: str | None, as_json: bool
) -> None:
    """Restore a database of APP from its backups as a new database, as it was at a TIME.

    The database itself stays as it is. APP gets the URL of the new one in a variable of its own,
    and `gatling db promote` puts it into the place of the other. A TIME is that of this host
    unless it names another zone.

    \b
    Examples:
      gatling db restore shop
      gatling db restore shop --to '2026-01-31 14:05:00' --as shop-before
    """
    from gatling.operations import restoring

    moment = None if to is None else restoring.moment(to)
    with opened(app) as gatling:
        done = restoring.restore(gatling, app, name, moment, new, progress())
    if as_json:
        print_json(done)
        return
    backup = done.backup if done.proved else f"{done.backup}, which is not proved"
    echo(f"{done.database} is restored from {backup}: {counted(done.tables, 'table')} with"
         f" {counted(done.rows, 'row')}.")  # fmt: skip
    if done.last:
        echo(f"Its last transaction is of {done.last}.")
    echo(f"Look at it: gatling db psql {app} --name {done.database}")
    echo(f"Use it:     gatling db promote {app} --name {done.database}")


@db_command.command("promote")
@app_argument
@click.option("--name", metavar="NAME", help="The restored database. Default: NAME-restored.")
@no_restart
@as_json
def promote_command(app: str, name: str | None, no_restart: bool, as_json: bool) -> None:
    """Use a restored database of APP in the place of its main one.

    DATABASE_URL gets the URL of the restored database, and a running release is deployed with a
    rolling restart. The other database stays, with everything that was written to it, and the same
    command with its name goes back.

    \b
    Examples:
      gatling db promote shop
      gatling db promote shop --name shop-before
    """
    from gatling.operations import restoring

    with opened(app) as gatling:
        done = restoring.promote(gatling, app, name, progress(), restart=not no_restart)
    if as_json:
        print_json(done)
        return
    echo(f"{app} has the URL of {done.database} as {done.variable}.")
    echo(f"{done.before} stays, and its URL is {done.before_variable}. To go back:"
         f" gatling db promote {app} --name {done.before}")  # fmt: skip


@db_command.command("psql")
@app_argument
@name_option
@click.argument("arguments", metavar="[-- ARGS...]", nargs=-1, type=click.UNPROCESSED)
def psql_command(app: str, name: str | None, arguments: tuple[str, ...]) -> None:
    """Open psql in a database of APP, with the rights of the app. ARGS go to psql.

    \b
    Examples:
      gatling db psql shop
      gatling db psql shop -- -c 'SELECT count(*) FROM orders'
    """
    from gatling.operations import databases

    with opened(app) as gatling:
        task = databases.shell(gatling, app, name, arguments)
    terminal = {key: os.environ[key] for key in ("TERM", "COLUMNS", "LINES") if key in os.environ}
    gatling.tasks.become(structs.replace(task, env=task.env | terminal))


@db_command.command("attach")
@app_argument
@click.argument("other_app")
@name_option
@variable_option
@replace_option
@click.option("--read-only", is_flag=True, help="Let APP read all tables, and change nothing.")
@no_restart
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

    with opened(app) as gatling:
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
@name_option
@no_restart
def detach_command(app: str, name: str | None, no_restart: bool) -> None:
    """End the use of a database by APP. The database and its data stay.

    \b
    Example:
      gatling db detach reports --name shop
    """
    from gatling.operations import databases

    with opened(app) as gatling:
        done = databases.detach(gatling, app, name, progress(), restart=not no_restart)
    echo(f"{app} no longer uses {done}. The database stays.")


@db_command.command("destroy")
@app_argument
@name_option
@click.option(
    "--confirm", "given", metavar="DATABASE",
    help="Confirm without a prompt by repeating the database's name.",
)  # fmt: skip
def destroy_command(app: str, name: str | None, given: str | None) -> None:
    """Remove a database of APP, and keep a last copy of it.

    The copy is a dump that is compared with the database, table by table, before anything is
    removed. `pg_restore` reads it.

    \b
    Example:
      gatling db destroy shop --confirm shop
    """
    from gatling.operations import databases

    with opened(app) as gatling:
        database = databases.check_destroy(gatling, app, name)
        confirm(database, given, f"Remove the database {database} of {app}? The running app loses"
                                 " it immediately. A last copy is kept on this host.")  # fmt: skip
        done = databases.destroy(gatling, app, name, progress())
    echo(f"{done.database} was removed.")
    if done.kept:
        echo(f"Its last copy is {done.kept} (a dump for pg_restore).")


def _may_install() -> bool:
    return os.environ.get("GATLING_ROLE", "admin") == "admin"


def _visible(one: Shown) -> Shown:
    """A database without the apps that the caller may not see."""
    app = one.app if one.app and is_shown(one.app) else None
    return structs.replace(one, app=app, used_by=[use for use in one.used_by if is_shown(use.app)])
