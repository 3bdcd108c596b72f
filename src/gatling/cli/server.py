"""`gatling server …`: the host itself."""

from __future__ import annotations

from pathlib import Path

import click

from gatling.cli.common import as_json, confirm
from gatling.cli.groups import Group
from gatling.cli.keys import keys_command
from gatling.errors import Exit, InvalidInput
from gatling.ui.output import echo


@click.group("server", cls=Group)
def server_command() -> None:
    """Manage the host: installation, SSH keys, backup.

    \b
    Examples:
      gatling server install --dry-run
      gatling server keys add ann --role admin < ann.pub
    """


server_command.add_command(keys_command)


@server_command.command("install")
@click.option("--dry-run", is_flag=True, help="Print the changes without making them.")
@click.option(
    "--email", metavar="ADDRESS",
    help="Obtain certificates from Let's Encrypt, whose terms you accept, with this address.",
)  # fmt: skip
@click.pass_context
def install_command(context: click.Context, dry_run: bool, email: str | None) -> None:
    """Install or update Gatling on this machine (as root).

    \b
    Examples:
      gatling server install --dry-run
      gatling server install --email ops@example.com
    """
    from gatling.cli import manpage
    from gatling.host import install, machine

    manual = manpage.page(context.find_root().command)
    done = install.install(echo, manual=manual, dry_run=dry_run)
    if dry_run:
        echo(f"{done} changes would be made." if done else "Nothing would be changed.")
        return
    echo("This machine is a Gatling host." if done else "Everything was already in place.")
    if email:
        machine.as_owner("certificates", "account", "--email", email)
        echo("Certificates for the domains of apps are obtained from Let's Encrypt.")
    if not machine.has_keys():
        echo("Add an SSH key: gatling server keys add NAME --role admin < KEY.pub")


@server_command.command("update")
@click.option("--dry-run", is_flag=True, help="Fetch and list what is new, and change nothing.")
@click.option(
    "--verify-signatures", is_flag=True,
    help="Refuse new commits unless the newest is signed with a key that the clone's owner trusts.",
)  # fmt: skip
def update_command(dry_run: bool, verify_signatures: bool) -> None:
    """Update Gatling on this machine from the clone that it was installed from (as root).

    Lists the new commits of the clone's branch with their signatures, fast-forwards the clone to
    them, and runs its bin/install. No running instance is changed.

    \b
    Examples:
      sudo gatling server update --dry-run
      sudo gatling server update
    """
    import os

    from gatling.host import machine, update

    if os.geteuid() != 0:
        raise InvalidInput("This needs root.", hint="`sudo gatling server update`")
    clone = update.installed_from()
    update.update(clone, echo, dry_run=dry_run, verify_signatures=verify_signatures)
    if not dry_run:
        # bin/install replaces the version that runs here
        os.execve(clone.installer, [str(clone.installer)], machine.clean_environment())  # noqa: S606


@server_command.command("check")
@as_json
@click.pass_context
def check_command(context: click.Context, as_json: bool) -> None:
    """Check this host and say how to fix each fault (best as root).

    \b
    Example:
      gatling server check
    """
    from gatling.host import check
    from gatling.ui.output import print_json

    found = check.check()
    if as_json:
        print_json(found)
    else:
        for one in found:
            echo(f"{'ok  ' if one.ok else 'FAIL'}  {one.name}: {one.what}")
            if not one.ok:
                echo(f"      {one.hint}")
    if not all(one.ok for one in found):
        context.exit(int(Exit.HOST))


@server_command.command("uninstall")
@click.option("--purge", is_flag=True, help="Also remove all apps, their data and their users.")
@click.option("--confirm", "given", metavar="HOSTNAME", help="Confirm with this host's name.")
def uninstall_command(purge: bool, given: str | None) -> None:
    """Stop all apps and remove Gatling (as root). Without --purge, data is kept.

    \b
    Example:
      gatling server uninstall
      gatling server uninstall --purge --confirm web1
    """
    import os
    import socket

    from gatling.host import machine, uninstall
    from gatling.paths import SERVER

    if os.geteuid() != 0:
        raise InvalidInput("This needs root.", hint="`sudo gatling server uninstall`")
    name = socket.gethostname()
    apps = machine.app_names()
    stopped = f"Stop {', '.join(apps)} and remove" if apps else "Remove"
    if purge:
        what = f"{stopped} Gatling from {name}, and DELETE all data of the apps?"
    else:
        what = f"{stopped} Gatling from {name}? The apps' data stays in {SERVER}."
    confirm(name, given, what)
    uninstall.uninstall(echo, purge=purge)


@server_command.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--without-databases", is_flag=True, help="Leave out the databases of apps.")
def backup_command(file: Path, without_databases: bool) -> None:
    """Back up all apps with their databases to FILE, for another host (as root).

    FILE holds records, keys, repositories, releases, the apps' state directories, and a dump of
    each database. Each dump is restored into a throw-away cluster and compared with the database:
    there is no FILE if one cannot be proved. FILE contains all secrets, so its mode is 0600.

    \b
    Examples:
      gatling server backup /root/gatling.tar.gz
      gatling server backup /root/code.tar.gz --without-databases
    """
    from gatling.host import backup

    echo(*backup.backup(file, databases=not without_databases).splitlines())


@server_command.command("restore")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def restore_command(file: Path) -> None:
    """Restore all apps of a backup on a host with Gatling and without apps (as root).

    The databases of the backup are restored and compared first. If this host lacks PostgreSQL, it
    is installed, in the same version or a later one.

    \b
    Example:
      gatling server restore /root/gatling.tar.gz
    """
    from gatling.host import restore

    for line in restore.restore(file):
        echo(line)
