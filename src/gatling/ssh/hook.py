"""`gatling receive`: called by the git hook."""

from __future__ import annotations

import click

from gatling.cli.common import app_argument


@click.command("receive", hidden=True)
@app_argument
def receive_command(app: str) -> int:
    """Deploy what is being pushed to APP; reads what git writes to a pre-receive hook.

    \b
    Example:
      echo "$old $new refs/heads/main" | gatling receive shop
    """
    from gatling.ssh import pre_receive

    return pre_receive.main(app)
