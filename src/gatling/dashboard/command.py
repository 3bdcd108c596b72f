"""`gatling dashboard`."""

from __future__ import annotations

import os

import click

from gatling.cli import browser, remote
from gatling.cli.common import opened
from gatling.errors import InvalidInput
from gatling.ui.output import echo


@click.command("dashboard")
@click.option(
    "--port", default=0, type=click.IntRange(0, 65535), metavar="PORT",
    help="The port on 127.0.0.1. Default: any that is free.",
)  # fmt: skip
@click.option("--print", "only_print", is_flag=True, help="Print the link, open no browser.")
@click.option("--stdio", is_flag=True, hidden=True, help="Speak to a dashboard on a laptop.")
def dashboard_command(port: int, only_print: bool, stdio: bool) -> None:
    """Open the dashboard in your browser: apps, numbers, deployments, logs.

    It shows this machine, or the server that --host or the project's git remote names. The SSH key
    decides what you may see and do there. The link works once, on this machine only. The dashboard
    ends ten minutes after you closed its pages.

    \b
    Examples:
      gatling dashboard
      gatling --host example.com dashboard
      gatling dashboard --print --port 8099
    """
    from gatling.dashboard import client, serving

    def ready(link: str) -> None:
        if only_print or not browser.show(link):
            echo(link)
        else:
            echo("The dashboard is open in your browser.", err=True)
        echo("Ctrl-C ends it.", err=True)

    if stdio:
        with opened() as gatling:
            serving.over_stdio(gatling, port)
        return
    if "GATLING_ROLE" in os.environ:
        raise InvalidInput(
            "The dashboard opens in a browser of your own machine.",
            hint="Run it there, where Gatling is installed: gatling --host"
            f" {os.uname().nodename} dashboard",
        )
    host = remote.implied()
    if host is not None:
        client.opened(host, port, ready)
        return
    with opened() as gatling:
        serving.on_loopback(gatling, port, ready)
