"""`gatling receive`: called by the git hook."""

from __future__ import annotations

import sys

import click

from gatling.cli.common import app_argument


@click.command("receive", hidden=True)
@app_argument
def receive_command(app: str) -> None:
    """Deploy what is being pushed to APP; reads what git writes to a pre-receive hook.

    \b
    Example:
      echo "$old $new refs/heads/main" | gatling receive shop
    """
    from gatling.server import receive

    sys.exit(receive.main(app))
