"""`gatling notify …`: who is notified of failures, and how."""

from __future__ import annotations

import sys

import click

from gatling.cli.common import as_json, created, opened
from gatling.cli.groups import Group
from gatling.errors import InvalidInput
from gatling.ui.output import ago, echo, print_json, table

MAX_READ = 4000


@click.group("notify", cls=Group)
def notify_command() -> None:
    """Send notifications of failures to webhooks, mail addresses and chat services.

    \b
    Examples:
      gatling notify add ops mailto:ops@example.com
      gatling notify list
    """


@notify_command.command("add")
@click.argument("name")
@click.argument("target")
@click.option("--app", "apps", metavar="APP", multiple=True,
              help="Only about this app. Default: all apps, and the host.")  # fmt: skip
@click.option("--event", "events", metavar="EVENT", multiple=True,
              help="Only this event. Default: all but deployment.succeeded.")  # fmt: skip
@click.option("--quiet", metavar="HH:MM-HH:MM", default="",
              help="Alerts of `gatling watch` wait in these hours of the host's time.")  # fmt: skip
@as_json
def add_command(
    name: str,
    target: str,
    apps: tuple[str, ...],
    events: tuple[str, ...],
    quiet: str,
    as_json: bool,
) -> None:
    """Add the channel NAME, which sends notifications to TARGET.

    TARGET is the https:// address of a webhook, mailto:ADDRESS, or a chat service in the form of
    apprise, such as slack://… or ntfy://TOPIC. With `-` it is read from standard input, so that no
    list of processes shows the token that it may contain.

    \b
    Examples:
      gatling notify add ops https://hooks.example.com/gatling
      gatling notify add team - < slack-url
      gatling notify add shop mailto:ann@example.com --app shop --event deployment.failed
      gatling notify add ann mailto:ann@example.com --quiet 22:00-07:00
    """
    from gatling.operations import notices

    if target == "-":
        if sys.stdin.isatty():
            raise InvalidInput(
                "The target is read from standard input, which is a terminal here.",
                hint=f"gatling notify add {name} - < FILE",
            )
        target = sys.stdin.read(MAX_READ).strip()
    with created(lambda _: notices.checked(name, target, apps, events, quiet)) as gatling:
        added = notices.add(gatling, name, target, apps, events, quiet)
    if as_json:
        print_json(added)
        return
    echo(f"{name} was added. `gatling notify test {name}` sends a test.")
    if added.secret:
        echo(f"The key of its signatures, which is not shown again: {added.secret}")


@notify_command.command("list")
@as_json
def list_command(as_json: bool) -> None:
    """List the channels, with what waits for them and the last error.

    \b
    Example:
      gatling notify list
    """
    from gatling.operations import notices

    with opened() as gatling:
        every = notices.every(gatling)
    if as_json:
        print_json(every)
    elif not every:
        echo("No channels yet. `gatling notify add NAME TARGET` adds one.")
    else:
        table(
            ("name", "target", "apps", "events", "waiting", "last sent"),
            [
                (one.name, one.target, ", ".join(one.apps), ", ".join(one.events),
                 str(one.waiting), ago(one.sent_at) if one.sent_at else "never")
                for one in every
            ],
        )  # fmt: skip
        for one in every:
            if one.quiet:
                echo(f"{one.name}: alerts wait from {one.quiet.replace('-', ' to ')}.")
            if one.error:
                echo(f"{one.name}: {one.error}")
            if one.dropped:
                echo(f"{one.name}: {one.dropped} notifications were given up.")


@notify_command.command("test")
@click.argument("name")
def test_command(name: str) -> None:
    """Send a notification through the channel NAME, and wait until it is accepted.

    \b
    Example:
      gatling notify test ops
    """
    from gatling.operations import notices

    with opened() as gatling:
        notices.test(gatling, name)
    echo(f"{name} accepted a notification.")


@notify_command.command("remove")
@click.argument("name")
def remove_command(name: str) -> None:
    """Remove the channel NAME, and what waits for it.

    \b
    Example:
      gatling notify remove ops
    """
    from gatling.operations import notices

    with opened() as gatling:
        notices.remove(gatling, name)
    echo(f"{name} was removed.")


@notify_command.command("deliver", hidden=True)
def deliver_command() -> None:
    """Send what waits. Gatling runs this by itself.

    \b
    Example:
      gatling notify deliver
    """
    from gatling.operations import notices

    with opened() as gatling:
        delivered = notices.deliver(gatling)
    if delivered.failed:
        echo(f"{delivered.failed} notifications were not accepted. They are sent again.", err=True)
