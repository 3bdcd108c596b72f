"""`gatling remote add`: a project and the server that it is pushed to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from gatling import names, process
from gatling.cli import targets
from gatling.cli.common import as_json
from gatling.errors import InvalidInput
from gatling.ui.output import echo, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.cli.targets import Host

_MIX_APP = re.compile(r"^[ \t]*app:[ \t]*:([a-z][a-z0-9_]*)", re.MULTILINE)
"""The name in a `mix.exs` as mix generates it. The file is read and never run."""


@click.group("remote")
def remote_command() -> None:
    """Connect the project here to a server.

    \b
    Example:
      gatling remote add gatling@web1.example.com
    """


@remote_command.command("add")
@click.argument("server", metavar="[USER@]HOST[:PORT]")
@click.option(
    "-a", "--app", "app", metavar="NAME", default=None,
    help="The app. Default: the name in mix.exs, or of the directory.",
)  # fmt: skip
@click.option(
    "--name", default=targets.USER, show_default=True, metavar="REMOTE",
    help="Name of the git remote.",
)  # fmt: skip
@click.option("--no-check", is_flag=True, help="Do not connect to the server first.")
@as_json
def add_command(server: str, app: str | None, name: str, no_check: bool, as_json: bool) -> None:
    """Add a git remote for the app on a server, after asking the server who you are there.

    \b
    Examples:
      gatling remote add gatling@web1.example.com
      gatling remote add web1.example.com:2222 --app shop --no-check
    """
    host = targets.parse(server)
    project = targets.in_project()
    if project is None:
        raise InvalidInput(
            "This directory is in no git repository.", hint="Run `git init` in the project first."
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise InvalidInput(f"{name!r} cannot be a remote's name here.", hint="For example gatling.")
    meant = names.app_name(app) if app is not None else _app_of(project)
    url = targets.url(host, meant)
    there = None if no_check else _ask(host, meant)
    is_new = _add(name, url)
    if as_json:
        print_json({"remote": name, "url": url, "app": meant, "server": there})
        return
    if there is not None:
        echo(f"{host.target} knows you as {there['name']} ({there['role']}).")
    echo(f"The git remote {name} {'is' if is_new else 'was already'} {url}")
    if there is not None and not there["exists"]:
        echo(f"The app {meant} does not exist yet. The first push creates it.")
    echo("", f"  git push {name} HEAD")


def _app_of(project: Path) -> str:
    """The name that mix.exs has for the project, or its directory's, as an app's name."""
    try:
        found = _MIX_APP.search((project / "mix.exs").read_text(errors="replace"))
    except OSError:
        found = None
    text = (found[1] if found else project.name.lower()).replace("_", "-").strip("-")
    if not names.is_app(text):
        raise InvalidInput("The app's name is not clear.", hint="Name it with --app NAME.")
    return text


def _ask(host: Host, app: str) -> dict[str, Any]:
    """Fetch the person's identity from the server, and whether the app exists there."""
    from gatling.cli import afar

    try:
        who = afar.ask_json(host, ["whoami"])
        apps = afar.ask_json(host, ["apps"])
    except afar.NotReached as error:
        error.hint += (
            f" At the first connection, `ssh {host.target}` also asks you to confirm the host's"
            " key. --no-check adds the remote without connecting."
        )
        raise
    return {
        "name": str(who["name"]),
        "role": str(who["role"]),
        "exists": any(each["app"] == app for each in apps),
    }


def _add(name: str, url: str) -> bool:
    """Add the remote; False when it has this address already. Raises InvalidInput for another."""
    found = dict(line.split("\t", 1) for line in targets.remotes() if line.endswith(" (push)"))
    if name not in found:
        process.output(["git", "remote", "add", name, url])
        return True
    now = found[name].removesuffix(" (push)")
    if now != url:
        raise InvalidInput(
            f"There is already a git remote {name}: {now}",
            hint=f"`git remote set-url {name} {url}` changes it. --name adds another one.",
        )
    return False
