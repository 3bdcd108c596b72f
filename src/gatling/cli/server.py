"""`gatling server …`: the host itself."""

from __future__ import annotations

import click

from gatling.cli.keys import keys_command


@click.group("server")
def server_command() -> None:
    """The host itself: installation, keys, backup.

    \b
    Example:
      gatling server keys add ann --role admin < ann.pub
    """


server_command.add_command(keys_command)
