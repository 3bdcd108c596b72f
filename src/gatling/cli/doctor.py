"""`gatling doctor`: what is wrong here, on a laptop, an embedded home or a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatling import __version__
from gatling.cli import targets
from gatling.cli.common import as_json
from gatling.errors import Exit, GatlingError
from gatling.ui.output import echo, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatling.cli.targets import Host
    from gatling.operations.doctor import Finding


@click.command("doctor")
@as_json
@click.pass_context
def doctor_command(context: click.Context, as_json: bool) -> None:
    """Check your setup and say how to fix each fault.

    In a project of a server: programs, git remote, gatling.toml, SSH and versions. Otherwise the
    embedded home on this machine. On a server this is `gatling server check`.

    \b
    Example:
      gatling doctor
    """
    from gatling.cli import remote

    host = remote.implied()
    found = list(_laptop(host) if host is not None else _this_machine())
    if as_json:
        print_json(found)
    else:
        show(found)
    if not all(each.ok for each in found):
        context.exit(int(Exit.HOST))


def show(found: Iterable[Finding]) -> None:
    """Print findings, with what to do about each fault."""
    for each in found:
        echo(f"{'ok  ' if each.ok else 'FAIL'}  {each.name}: {each.what}")
        if not each.ok:
            echo(*(f"      {line}" for line in each.hint.splitlines()))


def _this_machine() -> Iterator[Finding]:
    from gatling.operations import doctor
    from gatling.operations.session import opened
    from gatling.paths import default_root, server_owner
    from gatling.platform.homes import is_server

    root_of_server = os.geteuid() == 0 and server_owner() and not os.environ.get("GATLING_HOME")
    if is_server(default_root()) or root_of_server:
        from gatling.host import check

        for each in check.check():
            yield doctor.Finding(each.name, each.ok, each.what, each.hint)
        return
    yield from _project()
    with opened() as gatling:
        yield from doctor.embedded(gatling)


def _laptop(host: Host) -> Iterator[Finding]:
    """Check the needs of a server's client."""
    from gatling.operations import doctor

    programs = list(doctor.programs(("git", "ssh")))
    yield from programs
    yield from _project()
    if all(each.ok for each in programs):
        yield from _server(host)


def _server(host: Host) -> Iterator[Finding]:
    """Whether the server lets this person in, has another version, and knows the app."""
    from gatling.cli import afar
    from gatling.operations.doctor import Finding

    try:
        version = afar.ask(host, ["--version"]).strip().removeprefix("gatling ")
        who = afar.ask_json(host, ["whoami"])
        apps = {each["app"] for each in afar.ask_json(host, ["apps"])}
    except GatlingError as error:
        yield Finding("ssh", False, error.what, error.hint or "Update Gatling on the server.")
        return
    yield Finding("ssh", True, f"{host.target} knows you as {who['name']} ({who['role']})")
    yield Finding(
        "version", version == __version__, f"{version} on the server, {__version__} here",
        "" if version == __version__ else "Update the older one.",
    )  # fmt: skip
    for app in sorted(targets.apps_at(targets.remotes(), host, Path())):
        there = "exists on the server" if app in apps else "the first push creates it"
        yield Finding("app", True, f"{app}: {there}")


def _project() -> Iterator[Finding]:
    """Whether the project here has what a push needs."""
    project = targets.in_project()
    if project is None:
        return
    from gatling.operations.doctor import Finding
    from gatling.project import manifest

    where = [line.split("\t")[1] for line in targets.remotes() if line.startswith("gatling\t")]
    if where:
        yield Finding("remote", True, f"gatling is {where[0].rpartition(' ')[0]}")
    file = project / manifest.NAME
    try:
        with file.open("rb") as opened:
            manifest.parse(opened.read(manifest.MAX_BYTES + 1))
    except FileNotFoundError:
        return
    except OSError as error:
        yield Finding(manifest.NAME, False, f"cannot be read: {error.strerror}", "Check its mode.")
    except GatlingError as error:
        yield Finding(manifest.NAME, False, error.what, error.hint)
    else:
        yield Finding(manifest.NAME, True, "is valid")
