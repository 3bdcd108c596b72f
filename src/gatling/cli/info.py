"""`gatling info`, `open`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, reading
from gatling.errors import InvalidInput
from gatling.ui.output import ago, echo, fields, print_json, size

if TYPE_CHECKING:
    from gatling.operations.info import AppInfo
    from gatling.state.locks import Lock

_URL = re.compile(r"https?://([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-f:]+\])(:[0-9]{1,5})?/?\Z")
"""A URL that a browser is started with: the server's answer is not trusted to be one."""


@click.command("info")
@app_argument
@as_json
def info_command(app: str, as_json: bool) -> None:
    """Show what is set for APP: addresses, branches, toolchain, config names, settings.

    `gatling status` shows what APP does now.

    \b
    Example:
      gatling info shop
    """
    from gatling.operations import info

    with reading(app, clusters=True) as gatling:
        found = info.info(gatling, app)
    if as_json:
        print_json(found)
        return
    fields(_rows(found))


def _rows(found: AppInfo) -> list[tuple[str, str]]:
    live = f"{found.release} ({found.version}, {(found.commit or '')[:9]})" if found.release else ""
    chosen = [f"{key}={value}" for key, value in sorted(found.settings.items())]
    return [
        ("app", f"{found.app}, created {ago(found.created_at)}"),
        ("url", found.url),
        ("domains", ", ".join(found.domains)),
        ("push to", found.repository),
        ("deploy branch", " or ".join(found.branches)),
        ("release", live),
        *([("lock", _lock(found.lock))] if found.lock else []),
        ("toolchain", f"Elixir {found.elixir}, Erlang/OTP {found.otp}" if found.elixir else ""),
        ("releases", f"{found.releases}, {found.retained} retained ({size(found.bytes)})"),
        ("cluster", found.platform or ""),
        ("ports", ", ".join(map(str, found.ports))),
        ("config", ", ".join(found.config)),
        ("settings", ", ".join(chosen)),
        ("gatling.toml", ", ".join(f"{k}={v}" for k, v in sorted(found.manifest.items()))),
    ]


def _lock(held: Lock) -> str:
    from gatling.state import locks

    return locks.describe(held)


@click.command("open")
@app_argument
@click.argument("path", metavar="[PATH]", default="")
@click.option("--print", "only_print", is_flag=True, help="Print the URL, open no browser.")
def open_command(app: str, path: str, only_print: bool) -> None:
    """Open APP in your browser, or print its URL where there is no browser.

    \b
    Examples:
      gatling open shop
      gatling open shop /admin --print
    """
    from gatling.cli import browser

    if path and not (path.startswith("/") and path.isprintable() and " " not in path):
        raise InvalidInput(f"{path!r} is not a path.", hint="For example /admin.")
    url = _url(app)
    if not url:
        raise InvalidInput(
            f"{app} has no domain on its cluster.", hint=f"`gatling domains add {app} DOMAIN`"
        )
    if not _URL.match(url):
        raise InvalidInput(f"{app} has no URL that a browser can open: {url}")
    url = url.rstrip("/") + path
    if only_print or not browser.show(url):
        echo(url)
    else:
        echo(f"Opened {url}", err=True)


def _url(app: str) -> str:
    """The URL of an app, of this machine or of the server."""
    from gatling.cli import afar, remote

    host = remote.implied()
    if host is not None:
        return str(afar.ask_json(host, ["info", app])["url"])
    from gatling.operations import info

    with reading(app, clusters=True) as gatling:
        return info.info(gatling, app).url
