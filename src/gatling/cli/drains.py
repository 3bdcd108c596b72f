"""`gatling drains …`: where the logs of an app are sent."""

from __future__ import annotations

import sys
from contextlib import suppress

import click

from gatling.cli.common import app_argument, as_json, opened, reading
from gatling.cli.groups import Group
from gatling.errors import InvalidInput
from gatling.ui.output import ago, echo, print_json, table

MAX_READ = 4000


@click.group("drains", cls=Group)
def drains_command() -> None:
    """Send the log of an app to a log server, as it is printed.

    \b
    Examples:
      gatling drains add shop syslog+tls://logs.example.com:6514
      gatling drains list shop
    """


@drains_command.command("add")
@app_argument
@click.argument("url", metavar="URL")
def add_command(app: str, url: str) -> None:
    """Send the log of APP to URL from now on.

    URL is https://HOST/PATH, which gets lines of JSON by POST, syslog+tls://HOST:PORT or
    syslog+tcp://HOST:PORT (RFC 5424). With `-` it is read from standard input, so that no list of
    processes shows the token that it may contain.

    \b
    Examples:
      gatling drains add shop syslog+tls://logs.example.com:6514
      gatling drains add shop - < url
    """
    from gatling.operations import drains

    if url == "-":
        if sys.stdin.isatty():
            raise InvalidInput(
                "The address is read from standard input, which is a terminal here.",
                hint=f"gatling drains add {app} - < FILE",
            )
        url = sys.stdin.read(MAX_READ).strip()
    with opened(app, clusters=True) as gatling:
        added = drains.add(gatling, app, url)
    echo(f"The log of {app} is sent to {added.url} (drain {added.id}).")


@drains_command.command("list")
@app_argument
@as_json
def list_command(app: str, as_json: bool) -> None:
    """List the drains of APP, with the last error of each.

    \b
    Example:
      gatling drains list shop
    """
    from gatling.operations import drains

    with reading(app, clusters=True) as gatling:
        every = drains.of_app(gatling, app)
    if as_json:
        print_json(every)
    elif not every:
        echo(f"{app} has no drains. `gatling drains add {app} URL` adds one.")
    else:
        table(
            ("drain", "url", "lines", "last sent", "failures"),
            [
                (one.id, one.url, one.lines, ago(one.sent_at) if one.sent_at else "never",
                 one.failures or "")
                for one in every
            ],
        )  # fmt: skip
        for one in every:
            if one.error:
                echo(f"{one.id}: {one.error}")


@drains_command.command("remove")
@app_argument
@click.argument("drain", type=int)
def remove_command(app: str, drain: int) -> None:
    """Send the log of APP to a drain no longer. DRAIN is its number in the list.

    \b
    Example:
      gatling drains remove shop 1
    """
    from gatling.operations import drains

    with opened(app, clusters=True) as gatling:
        removed = drains.remove(gatling, app, drain)
    echo(f"The log of {app} is sent to {removed.url} no longer.")


@drains_command.command("run", hidden=True)
@click.argument("drain")
def run_command(drain: str) -> None:
    """Send a log to a drain until it is removed. Gatling runs this by itself.

    \b
    Example:
      gatling drains run shop.1
    """
    from gatling.interrupt import EndedBySignal, ended_by_signals
    from gatling.operations import drains

    number = drain.rpartition(".")[2]
    if not number.isdecimal() or len(number) > 9:
        raise InvalidInput(f"{drain!r} is no drain.", hint="Give APP.NUMBER.")
    with suppress(EndedBySignal), ended_by_signals(), opened() as gatling:
        drains.drain(gatling, int(number))
