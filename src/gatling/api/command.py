"""`gatling api`."""

from __future__ import annotations

import click

from gatling.cli.common import opened
from gatling.ui.output import echo


@click.command("api")
@click.option(
    "--listen", metavar="PLACE", default="",
    help="A path for a Unix socket, or an address of loopback such as 127.0.0.1:8090. Default:"
    " run/api.sock in the home.",
)  # fmt: skip
def api_command(listen: str) -> None:
    """Serve the HTTP API on a Unix socket or on loopback, until it is stopped.

    Each request needs a token (`gatling tokens add`), and is permitted what an SSH key of the same
    role and apps is permitted. docs/api.md describes the requests.

    \b
    Examples:
      gatling api
      gatling api --listen 127.0.0.1:8090
    """
    from gatling.api import serving

    with opened() as gatling:
        serving.serve(gatling, listen, lambda place: echo(f"The API is served on {place}.",
                                                          err=True))  # fmt: skip
