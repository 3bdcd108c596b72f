"""`gatling tokens …`: who may use the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling.cli.common import as_json, created, opened
from gatling.cli.groups import Group
from gatling.ui.output import ago, echo, echo_exactly, print_json, table

if TYPE_CHECKING:
    from gatling.state.keys import Role


@click.group("tokens", cls=Group)
def tokens_command() -> None:
    """Manage the tokens of programs that use the HTTP API (`gatling api`).

    The roles are those of SSH keys: an admin may do everything, a deployer deploy and configure
    the named apps, a reader look at them.

    \b
    Examples:
      gatling tokens add status --role reader
      gatling tokens list
    """


@tokens_command.command("add")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(("admin", "deployer", "reader")), required=True,
    help="Role of the token.",
)  # fmt: skip
@click.option(
    "--app", "apps", metavar="APP", multiple=True,
    help="App that the token may use. It need not exist. '*' means all, a reader's default.",
)  # fmt: skip
@click.option(
    "--expires", metavar="TIME", default="90d", show_default=True,
    help="How long the token is valid: 12h, 30d, at most 366d.",
)  # fmt: skip
@as_json
def add_command(name: str, role: Role, apps: tuple[str, ...], expires: str, as_json: bool) -> None:
    """Create the token NAME and print it. It is not stored and cannot be shown again.

    \b
    Examples:
      gatling tokens add ci --role deployer --app shop --expires 30d
      gatling tokens add board --role reader > token
    """
    from gatling import names
    from gatling.operations import tokens
    from gatling.state import tokens as state
    from gatling.state.keys import EVERY_APP

    if role == "admin" and apps:
        raise click.UsageError("An admin's token applies to all apps. Leave out --app.")
    if role == "deployer" and not apps:
        raise click.UsageError("Name the apps that the token may deploy: --app shop, or --app '*'.")
    for app in apps:
        if app != EVERY_APP:
            names.app_name(app)
    tokens.expiry(expires)
    with created(lambda gatling: state.check_new(gatling.db, name)) as gatling:
        made = tokens.add(gatling, name, role, apps or (EVERY_APP,), expires)
    if as_json:
        print_json(made)
        return
    until = made.entry.expires_at[:10]
    echo(f"{name} was added as {role}, until {until}. Store the token: it is shown this once.",
         err=True)  # fmt: skip
    echo_exactly(made.token)


@tokens_command.command("list")
@as_json
def list_command(as_json: bool) -> None:
    """List the tokens, without their texts.

    \b
    Example:
      gatling tokens list
    """
    from gatling.operations import tokens

    with opened() as gatling:
        every = tokens.every(gatling)
    if as_json:
        print_json(every)
    elif not every:
        echo("No tokens yet. `gatling tokens add NAME --role reader` creates one.")
    else:
        table(
            ("name", "role", "apps", "by", "created", "used", "expires"),
            [
                (one.name, one.role, ", ".join(one.apps), one.created_by, ago(one.created_at),
                 ago(one.used_at) if one.used_at else "never",
                 "expired" if one.expired else one.expires_at[:10])
                for one in every
            ],
            drop=("by", "created"),
        )  # fmt: skip


@tokens_command.command("remove")
@click.argument("name")
def remove_command(name: str) -> None:
    """Remove the token NAME. Its next request is refused.

    \b
    Example:
      gatling tokens remove ci
    """
    from gatling.operations import tokens

    with opened() as gatling:
        tokens.remove(gatling, name)
    echo(f"The token {name} was removed.")
