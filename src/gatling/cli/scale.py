"""`gatling scale`."""

from __future__ import annotations

import click

from gatling.cli.common import app_argument, as_json, opened, progress
from gatling.errors import InvalidInput
from gatling.ui.output import echo, print_json, table


@click.command("scale")
@app_argument
@click.argument("counts", metavar="[PROCESS=NUMBER]...", nargs=-1)
@as_json
def scale_command(app: str, counts: tuple[str, ...], as_json: bool) -> None:
    """Set, or show, how many instances of each worker run.

    The gatling.toml of the live release names the workers. 0 stops a worker. On a cluster `web` is
    the app itself.

    \b
    Examples:
      gatling scale shop
      gatling scale shop worker=3 mailer=0
      gatling scale shop web=3
    """
    from gatling.operations import processes

    wanted = dict(_count(text) for text in counts)
    with opened(app, clusters=True) as gatling:
        shown = processes.every(gatling, app)
        if wanted:
            shown = processes.scale(gatling, app, wanted, progress=progress())
    if as_json:
        print_json(shown)
    elif shown:
        rows = [(each.process, each.instances, each.command) for each in shown]
        table(
            ("process", "instances", "command"),
            rows,
        )
    else:
        echo(f"{app} has no workers. Define them under [processes] in gatling.toml.")


def _count(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise InvalidInput(
            f"{text!r} is not PROCESS=NUMBER.",
            hint="For example worker=2. The app itself runs as one instance.",
        )
    return name, int(number)
