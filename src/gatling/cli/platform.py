"""`gatling platform …`: the Kubernetes clusters that this home knows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatling.cli.common import as_json, created, opened
from gatling.cli.groups import Group
from gatling.errors import Exit, InvalidInput
from gatling.ui.output import echo, print_json, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from gatling.platform.kubernetes.check import Finding

MAX_READ = 1 << 20
_MARKS = {"ok": "ok", "warning": "warning", "failed": "FAILED", "unknown": "not known"}


@click.group("platform", cls=Group)
def platform_command() -> None:
    """Manage the Kubernetes clusters that this home knows, and check them.

    `gatling load APP --platform NAME` creates an app that runs on one.

    \b
    Example:
      gatling platform list
    """


@platform_command.command("list")
@as_json
def list_command(as_json: bool) -> None:
    """List the clusters: address, namespace and registry.

    \b
    Example:
      gatling platform list
    """
    from gatling.operations import platforms

    with opened() as gatling:
        found = platforms.every(gatling)
    if as_json:
        print_json(found)
        return
    if not found:
        echo("No cluster was added. All apps run on this machine.")
        return
    table(
        ("platform", "cluster", "namespace", "registry"),
        [(one.name, one.server, one.namespace, one.registry) for one in found],
        cut=("cluster", "registry"), drop=("registry",),
    )  # fmt: skip


@platform_command.command("add")
@click.argument("name")
@click.option(
    "--kubeconfig", type=click.File("r"), metavar="FILE",
    help="The file with the cluster's address and credentials. Default: standard input.",
)  # fmt: skip
@click.option("--context", default="", metavar="NAME", help="Default: the current context.")
@click.option("--namespace", default="", metavar="NAME", help="Default: that of the context.")
@click.option(
    "--registry", default="", metavar="HOST/PATH",
    help="The place for the images of apps: registry.example.com/team.",
)  # fmt: skip
@click.option("--registry-user", default="", metavar="NAME", help="The user of the registry.")
@click.option(
    "--registry-password", type=click.File("r"), metavar="FILE",
    help="The file of the user's password. Default: a prompt, or standard input.",
)  # fmt: skip
@click.option(
    "--registry-ca", type=click.File("r"), metavar="FILE",
    help="Certificates (PEM) that the registry is checked by. Default: those of the system.",
)  # fmt: skip
@as_json
def add_command(
    name: str,
    kubeconfig: TextIO | None,
    context: str,
    namespace: str,
    registry: str,
    registry_user: str,
    registry_password: TextIO | None,
    registry_ca: TextIO | None,
    as_json: bool,
) -> None:
    """Add the cluster of a kubeconfig as the platform NAME, and check it.

    The kubeconfig needs a token or a client certificate in itself. A kubeconfig that runs a program
    to log in is refused; docs/kubernetes.md shows how to create a service account in its place. The
    cluster is not changed. It is added even if a check fails, unless it cannot be reached.

    \b
    Examples:
      gatling platform add prod --kubeconfig shop.kubeconfig --registry registry.example.com/team
      gatling platform add prod --namespace shop < shop.kubeconfig
    """
    from gatling.operations import platforms

    platforms.checked_name(name)
    if kubeconfig is None and sys.stdin.isatty():
        raise InvalidInput("Give the kubeconfig as well: --kubeconfig FILE.")
    source = kubeconfig or sys.stdin
    cluster = platforms.connection(_read(source), context, namespace)
    if not registry and (registry_user or registry_password or registry_ca):
        raise InvalidInput("Name the registry as well: --registry HOST/PATH.")
    store = None
    if registry:
        password = _password(registry_user, registry_password, taken=source is sys.stdin)
        authority = _read(registry_ca) if registry_ca else ""
        store = platforms.registry(registry, registry_user, password, authority)
    with created(lambda _: None) as gatling:
        found = platforms.add(gatling, name, cluster, store)
    if as_json:
        print_json({"name": name, "findings": found})
        return
    _print(found)
    echo(f"The platform {name} was added. `gatling platform check {name}` checks it again.")


@platform_command.command("check")
@click.argument("name")
@as_json
def check_command(name: str, as_json: bool) -> None:
    """Check the cluster NAME: connection, version, rights, registry, nodes, storage, ingress.

    The cluster is not changed. The exit status is 8 if a check fails.

    \b
    Example:
      gatling platform check prod
    """
    from gatling.operations import platforms

    with opened() as gatling:
        found = platforms.check(gatling, name)
    if as_json:
        print_json({"name": name, "findings": found})
    else:
        _print(found)
    if any(one.state == "failed" for one in found):
        sys.exit(Exit.HOST)


@platform_command.command("remove")
@click.argument("name")
def remove_command(name: str) -> None:
    """Remove the cluster NAME with its credentials from this home. The cluster is not changed.

    \b
    Example:
      gatling platform remove prod
    """
    from gatling.operations import platforms

    with opened() as gatling:
        platforms.remove(gatling, name)
    echo(f"The platform {name} was removed.")


def _print(found: Sequence[Finding]) -> None:
    for one in found:
        echo(f"{_MARKS[one.state]:<9}  {one.name}: {one.what}")
        if one.hint and one.state != "ok":
            echo(f"{'':<9}  {one.hint}")


def _read(file: TextIO) -> str:
    try:
        text = file.read(MAX_READ + 1)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file.name} is not a text.") from error
    if len(text) > MAX_READ:
        raise InvalidInput(f"{file.name} is larger than {MAX_READ >> 20} MB.")
    return text


def _password(user: str, file: TextIO | None, *, taken: bool) -> str:
    """The password; never an argument, which everybody on the machine could read."""
    if file is not None:
        return _read(file).rstrip("\r\n")
    if not user:
        return ""
    if taken:
        raise InvalidInput(
            "The kubeconfig is on standard input, where the password cannot be as well.",
            hint="Give the password in a file: --registry-password FILE.",
        )
    if sys.stdin.isatty():
        return str(click.prompt(f"Password of {user}", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")
