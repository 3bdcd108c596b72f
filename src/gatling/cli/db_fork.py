"""`gatling db fork` and `gatling db forks`: databases with the data of others."""

from __future__ import annotations

import click

from gatling.cli.common import (
    DATABASES,
    app_argument,
    as_json,
    confirm,
    opened,
    progress,
)
from gatling.cli.visitor import is_shown, is_visitor
from gatling.errors import InvalidInput, Misused
from gatling.text import counted
from gatling.ui.output import ago, echo, print_json, size, table

LARGE_BYTES = 1 << 30
"""The size from which on a copy is slow enough to mention copy-on-write."""
HOW = {
    "clone": "a copy-on-write copy of its files",
    "copy": "a copy of its files",
    "schema": "its definitions, without rows",
}


@click.command("fork")
@app_argument
@click.argument("new", metavar="NAME")
@click.option(
    "--name", "source", metavar="DATABASE", help="The database to fork. Default: the app's name."
)
@click.option(
    "--schema-only", is_flag=True, help="Copy definitions and the list of migrations, but no rows."
)
@click.option(
    "--scrub", metavar="SQLFILE",
    help="Run a file of SQL in the fork before anybody can connect to it. `-` is stdin.",
)  # fmt: skip
@click.option("--destroy", is_flag=True, help="Remove the fork NAME, without a last copy.")
@click.option(
    "--confirm", "given", metavar="NAME",
    help="Confirm --destroy without a prompt by repeating the fork's name.",
)  # fmt: skip
@as_json
def fork_command(
    app: str, new: str, source: str | None, schema_only: bool, scrub: str | None, destroy: bool,
    given: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Create a database NAME with the data that a database of APP has now.

    The database goes on working, and nothing is written to it. The fork is a cluster of its own,
    for trying something out. On a file system with copy-on-write, such as XFS or btrfs, the two
    share their files and a fork takes seconds. APP gets the URL of the fork in a variable of its
    own. `gatling db attach` lets another app use the fork.

    The file of --scrub runs in one transaction with the rights of APP, and may have no commands of
    psql. If it fails, the fork is removed. --destroy asks, and keeps no copy.

    \b
    Examples:
      gatling db fork shop shop-try
      gatling db fork shop shop-staging --scrub scrub.sql
      gatling db fork shop shop-empty --schema-only
      gatling db fork shop shop-try --destroy
    """
    from gatling.operations import forks

    if destroy:
        if source is not None or schema_only or scrub is not None:
            raise Misused("--destroy removes the fork: it goes with no other option but --confirm.")
        with opened(app, instead=DATABASES) as gatling:
            fork = forks.check(gatling, app, new)
            confirm(fork, given, f"Remove the fork {fork} of {app}, without a last copy?")
            forks.destroy(gatling, app, fork, progress())
        echo(f"{fork} was removed.")
        return
    script = "" if scrub is None else _script(scrub)
    with opened(app, instead=DATABASES) as gatling:
        done = forks.fork(
            gatling, app, new, source, progress(), schema_only=schema_only, scrub=script
        )
    if as_json:
        print_json(done)
        return
    echo(f"{done.database} is a fork of {done.source} ({size(done.bytes)}): {HOW[done.how]},"
         f" made in {done.copy_seconds:.1f} s.")  # fmt: skip
    if text := advice(done.how, done.bytes):
        echo(text)
    if done.scrubbed:
        echo(f"The script ran in {done.scrub_seconds:.1f} s, before anybody could connect.")
    echo(f"{counted(done.tables, 'table')}. {app} has the URL of the fork as {done.variable}, from"
         " its next deployment on.")  # fmt: skip
    echo(f"Look at it: gatling db psql {app} --name {done.database}")
    echo(f"Remove it:  gatling db fork {app} {done.database} --destroy")


def advice(how: str, count: int) -> str:
    """The advice after a large database of `count` bytes was copied; empty: there is none."""
    if how != "copy" or count < LARGE_BYTES:
        return ""
    return (
        "The files were copied, because this file system cannot share blocks between files. On a"
        " volume, a fork takes seconds and hardly any room. An admin of a server creates it:"
        " `gatling db volume create --move`. docs/how-to/database.md has more."
    )


@click.command("forks")
@as_json
def forks_command(as_json: bool) -> None:
    """List the forks of databases on this host, with their age and size.

    \b
    Example:
      gatling db forks
    """
    from gatling.operations import forks

    with opened() as gatling:
        every = forks.every(gatling)
    found = [one for one in every if is_shown(one.app or "")]
    if as_json:
        print_json(found)
        return
    if not found:
        echo("There is no fork. `gatling db fork APP NAME` creates one.")
        return
    table(
        ("fork", "of", "app", "kind", "scrubbed", "size", "state", "made"),
        [(one.database, one.source, one.app or "–", one.how or "–",
          "yes" if one.scrubbed else "no", "–" if one.bytes is None else size(one.bytes), one.state,
          ago(one.created_at)) for one in found],
        drop=("kind", "scrubbed"),
    )  # fmt: skip


def _script(file: str) -> str:
    """The text of a script. Over SSH, no file of the server is read for the caller."""
    from gatling.operations.forks import SCRIPT_BYTES

    if file != "-" and is_visitor():
        raise InvalidInput(
            "A server reads the script from stdin.", hint=f"Use `--scrub - < {file}`."
        )
    try:
        with click.open_file(file, encoding="utf-8") as opened_file:
            return str(opened_file.read(SCRIPT_BYTES + 1))
    except FileNotFoundError:
        raise InvalidInput(f"There is no file {file}.") from None
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is not a text in UTF-8.") from None


COMMANDS = (fork_command, forks_command)
