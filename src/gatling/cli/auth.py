"""`gatling auth …`: passwords for an app's domains (basic authentication, by nginx)."""

from __future__ import annotations

import sys

import click

from gatling.cli.common import PASSWORDS, app_argument, as_json, opened
from gatling.cli.groups import Group
from gatling.ui.output import echo, print_json, table

domain_argument = click.argument("domain", metavar="DOMAIN|'*'")


@click.group("auth", cls=Group)
def auth_command() -> None:
    """Protect an app's domains with passwords.

    Health checks and deployments do not need a password.

    \b
    Example:
      gatling auth add shop staging.example.com ann < password
    """


@auth_command.command("list")
@app_argument
@as_json
def list_command(app: str, as_json: bool) -> None:
    """List the users of APP's domains. Domains that are not listed need no password.

    \b
    Example:
      gatling auth list shop
    """
    from gatling.operations import auth

    with opened() as gatling:
        found = auth.every(gatling, app)
    if as_json:
        print_json(found)
    elif found:
        table(("domain", "user"), [(one.domain, one.user) for one in found])
    else:
        echo(f"{app} has no passwords. All of its domains are public.")


@auth_command.command("add")
@app_argument
@domain_argument
@click.argument("user")
def add_command(app: str, domain: str, user: str) -> None:
    """Give USER a password for DOMAIN of APP, or for all its domains ('*').

    You type the password, or it is the first line of standard input. It replaces the password of an
    existing user.

    \b
    Examples:
      gatling auth add shop '*' ann
      gatling auth add shop staging.example.com ci < password
    """
    from gatling.operations import auth
    from gatling.project import proxy

    with opened(app, instead=PASSWORDS) as gatling:
        auth.find(gatling, app, domain, user)
        name = auth.add(gatling, app, domain, user, _asked(user))
    echo(f"{user} can access {'all domains' if name == proxy.EVERYWHERE else name} of {app}.")


@auth_command.command("remove")
@app_argument
@domain_argument
@click.argument("user")
def remove_command(app: str, domain: str, user: str) -> None:
    """Remove USER. A domain without users needs no password.

    \b
    Example:
      gatling auth remove shop '*' ann
    """
    from gatling.operations import auth

    with opened(app, instead=PASSWORDS) as gatling:
        opens = auth.remove(gatling, app, domain, user)
    echo(f"{user} was removed.")
    if opens:
        echo(opens)


def _asked(user: str) -> str:
    """The password; never an argument, which everybody on the machine could read."""
    if sys.stdin.isatty():
        password = str(
            click.prompt(f"Password of {user}", hide_input=True, confirmation_prompt=True, err=True)
        )
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    return password
