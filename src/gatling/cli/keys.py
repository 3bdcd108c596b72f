"""`gatling server keys …`: who is let in over SSH."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatling.cli.common import as_json, confirm, created, opened
from gatling.cli.groups import Group
from gatling.errors import InvalidInput
from gatling.ui.output import ago, echo, print_json, table

if TYPE_CHECKING:
    from gatling.state.keys import Role


@click.group("keys", cls=Group)
def keys_command() -> None:
    """Manage the SSH keys that are authorized, and their roles.

    An admin may do everything; a deployer push to, deploy and configure the named apps, and make
    them; a reader look at apps, without their config.

    \b
    Example:
      gatling server keys add ann --role deployer --app shop < ann.pub
    """


@keys_command.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(("admin", "deployer", "reader")),
    default="deployer",
    show_default=True,
    help="Role of the key.",
)
@click.option(
    "--app", "apps", metavar="APP", multiple=True,
    help="App that the key may use. It need not exist. '*' means all, a reader's default.",
)  # fmt: skip
def add_command(name: str, role: Role, apps: tuple[str, ...]) -> None:
    """Allow the public key on standard input to connect, under NAME.

    \b
    Examples:
      gatling server keys add ann --role admin < ~/.ssh/id_ed25519.pub
      gatling server keys add ci --app shop --app blog < ci.pub
    """
    from gatling import names
    from gatling.operations import keys
    from gatling.state.keys import EVERY_APP

    if role == "admin" and apps:
        raise click.UsageError("An admin key applies to all apps. Leave out --app.")
    if role == "deployer" and not apps:
        raise click.UsageError("Name the apps that the key may deploy: --app shop, or --app '*'.")
    for app in apps:
        if app != EVERY_APP:
            names.app_name(app)
    if sys.stdin.isatty():
        raise InvalidInput(
            "The key is read from standard input, which is a terminal here.",
            hint=f"gatling server keys add {name} … < ~/.ssh/id_ed25519.pub",
        )
    try:
        text = sys.stdin.buffer.read(keys.MAX_TEXT + 1).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("This is not a public key: it is not UTF-8 text.") from None
    with created(lambda gatling: keys.check(gatling, name, text)) as gatling:
        key = keys.add(gatling, name, text, role, apps or (EVERY_APP,))
    echo(f"{key.name} was added as {key.role}: {key.fingerprint}")


@keys_command.command("list")
@as_json
def list_command(as_json: bool) -> None:
    """List the keys.

    \b
    Example:
      gatling server keys list
    """
    from gatling.operations import keys

    with opened() as gatling:
        every = keys.every(gatling)
    if as_json:
        print_json(every)
    elif not every:
        echo("No keys yet. `gatling server keys add NAME` adds one.")
    else:
        table(
            ("name", "role", "apps", "type", "fingerprint", "added"),
            [
                (k.name, k.role, ", ".join(k.apps), k.type, k.fingerprint, ago(k.created_at))
                for k in every
            ],
        )


@keys_command.command("remove")
@click.argument("name")
@click.option("--confirm", "given", metavar="NAME", help="Confirm by repeating the key's name.")
def remove_command(name: str, given: str | None) -> None:
    """Revoke the key NAME. Asks for confirmation if it is the last admin key.

    \b
    Example:
      gatling server keys remove ann
    """
    from gatling.operations import keys

    with opened() as gatling:
        if keys.is_last_admin(gatling, name):
            what = "Remove the last admin key? After that, only this host's root can add a key."
            confirm(name, given, what)
        keys.remove(gatling, name)
    echo(f"The key {name} was revoked.")
