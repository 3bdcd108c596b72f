"""`gatling db …`: backups of databases, and what is restored from them."""

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
from gatling.errors import Exit, Misused
from gatling.text import counted
from gatling.ui.output import ago, echo, print_json, size, table


@click.command("backup")
@app_argument
@database_option
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

    with opened(app, instead=DATABASES) as gatling:
        done = backups.make(gatling, app, name, progress(), full=full, may_install=may_install())
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


@click.command("backups")
@app_argument
@database_option
@as_json
def backups_command(app: str, name: str | None, as_json: bool) -> None:
    """List the backups of a database of APP, and whether they are proved.

    Restore points are listed below, one for each release of APP that ran migrations since the
    oldest backup: a restore can go back to the moment before them.

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
    points = [(f"v{point.release}", ago(point.at), one.label)
              for one in found for point in one.restore_points]  # fmt: skip
    if points:
        echo("")
        table(("restore point", "made", "backup"), points)
        echo(f"Restore the database as it was before a release's migrations:"
             f" gatling db restore {app} --to {points[-1][0]}")  # fmt: skip


@click.command("schedule")
@app_argument
@database_option
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
    with opened(app, instead=DATABASES) as gatling:
        plan = backups.schedule(gatling, app, name, at="" if off else at, count=count, days=days)
    if as_json:
        print_json(plan)
        return
    when = f"is backed up every day at {plan.at}" if plan.at else "is not backed up on a schedule"
    echo(f"{plan.database} {when}. All full backups of {counted(plan.days, 'day')} stay, and at"
         f" least {plan.count}.")  # fmt: skip


@click.command("scheduled", hidden=True)
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


@click.command("restore")
@app_argument
@database_option
@click.option(
    "--to",
    metavar="TIME|vN",
    help="A time, such as '2026-01-31 14:05:00', or a release:"
    " the moment before its migrations. Default: now.",
)
@click.option("--as", "new", metavar="NAME", help="The new database. Default: NAME-restored.")
@as_json
def restore_command(
    app: str, name: str | None, to: str | None, new: str | None, as_json: bool
) -> None:
    """Restore a database of APP from its backups as a new database, as it was at a TIME.

    The database itself stays as it is. APP gets the URL of the new one in a variable of its own,
    and `gatling db promote` puts it into the place of the other. A TIME is that of this host
    unless it names another zone.

    `--to v12` is the moment before the migrations of v12 ran for the first time on this database.
    Everything that was committed until then is restored, and nothing of the migrations.
    `gatling db backups` lists these moments.

    \b
    Examples:
      gatling db restore shop
      gatling db restore shop --to v12
      gatling db restore shop --to '2026-01-31 14:05:00' --as shop-before
    """
    from gatling.operations import restoring

    moment = None if to is None else restoring.moment(to)
    with opened(app, instead=DATABASES) as gatling:
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


@click.command("promote")
@app_argument
@click.option("--name", metavar="NAME", help="The restored database. Default: NAME-restored.")
@no_restart_option
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

    with opened(app, instead=DATABASES) as gatling:
        done = restoring.promote(gatling, app, name, progress(), restart=not no_restart)
    if as_json:
        print_json(done)
        return
    echo(f"{app} has the URL of {done.database} as {done.variable}.")
    echo(f"{done.before} stays, and its URL is {done.before_variable}. To go back:"
         f" gatling db promote {app} --name {done.before}")  # fmt: skip


COMMANDS = (
    backup_command,
    backups_command,
    schedule_command,
    scheduled_command,
    restore_command,
    promote_command,
)
