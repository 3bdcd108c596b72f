"""`gatling toolchain …`: the versions of Elixir and OTP that builds can use."""

from __future__ import annotations

from pathlib import Path

import click

from gatling.cli.common import app_argument, as_json, created, opened
from gatling.cli.groups import Group
from gatling.cli.visitor import is_shown
from gatling.errors import InvalidInput
from gatling.ui.output import echo, print_json, size, table


@click.group("toolchain", cls=Group)
def toolchain_command() -> None:
    """Manage the versions of Elixir and Erlang/OTP that builds can use.

    A build uses the version that .tool-versions, mise.toml or elixir_buildpack.config asks for, or
    one that `elixir:` in mix.exs allows. Running apps are not affected, because each release
    includes its own Erlang.

    \b
    Example:
      gatling toolchain install 1.18/27
    """


@toolchain_command.command("list")
@as_json
def list_command(as_json: bool) -> None:
    """List the toolchains: version, disk use, and the apps that the next push builds with them.

    \b
    Example:
      gatling toolchain list
    """
    from gatling.operations import toolchains

    with opened() as gatling:
        found = toolchains.every(gatling)
    rows = [(each, [app for app in each.apps if is_shown(app)]) for each in found]
    if as_json:
        print_json([
            {"name": each.name, "elixir": each.elixir, "otp": each.otp, "bytes": each.bytes,
             "source": each.source, "apps": visible}
            for each, visible in rows
        ])  # fmt: skip
        return
    if not found:
        echo("This host has no toolchain. `gatling toolchain install 1.18` installs one.")
        return
    table(
        ("toolchain", "elixir", "otp", "disk", "apps", "from"),
        [(each.name, each.elixir, each.otp, "" if each.bytes is None else size(each.bytes),
          ", ".join(visible), each.source) for each, visible in rows],
        cut=("from", "apps"), drop=("from", "apps"),
    )  # fmt: skip


@toolchain_command.command("install")
@click.argument("version")
@click.option(
    "--from", "paths", metavar="PATH", multiple=True,
    help="Install from a directory or an archive of the host. Repeat it if Elixir and OTP are"
    " apart.",
)  # fmt: skip
@click.option("--sha256", default="", metavar="HEX", help="The SHA-256 checksum of the archive.")
def install_command(version: str, paths: tuple[str, ...], sha256: str) -> None:
    """Install Elixir and OTP: the newest ones that VERSION stands for.

    VERSION is 1.18, 1.18.4, 1.18/27, 1.18.4-otp-27 or 1.18.4/27.3.4. The builds come from a mirror
    (`gatling toolchain source`), and are compared with the checksums that it lists. Nothing is
    installed if anything fails.

    \b
    Examples:
      gatling toolchain install 1.18/27
      gatling toolchain install 1.18 --from /opt/beam/27
    """
    from gatling.operations import toolchains

    if sha256 and len(paths) != 1:
        raise InvalidInput("--sha256 is for the one archive that --from names.")
    given = [str(Path(path).absolute()) for path in paths]
    with created(lambda _: toolchains.check(version)) as gatling:
        done = toolchains.install(gatling, version, echo, paths=given, sha256=sha256)
    if done.changed:
        echo(f"Installed {done.name} ({size(done.bytes)}).")
    else:
        echo(f"{done.name} is already installed.")


@toolchain_command.command("use")
@app_argument
@click.argument("version")
def use_command(app: str, version: str) -> None:
    """Build APP with VERSION from the next push on, whatever the project's files ask for.

    VERSION is that of an installed toolchain, `system` for the host's own, or `auto` for the
    version that the project's files ask for. This is the setting build.toolchain.

    \b
    Examples:
      gatling toolchain use shop 1.18/27
      gatling toolchain use shop auto
    """
    from gatling.operations import toolchains

    with opened(app, clusters=True) as gatling:
        done = toolchains.use(gatling, app, version, echo)
    if not done.setting:
        echo(f"From the next push on, {app}'s own files decide about its toolchain.")
    else:
        echo(f"The next push of {app} is built with {done.toolchain or done.setting}.")


@toolchain_command.command("remove")
@click.argument("version")
def remove_command(version: str) -> None:
    """Remove an installed toolchain that no app needs for its next push.

    \b
    Example:
      gatling toolchain remove 1.17.3-otp-26
    """
    from gatling.operations import toolchains

    with opened() as gatling:
        done = toolchains.remove(gatling, version)
    echo(f"Removed {done}. Releases that were built with it are not affected.")


@toolchain_command.command("source")
@click.option("--mirror", metavar="URL", help="Download builds from another mirror.")
@click.option(
    "--automatic", type=click.Choice(("on", "off")),
    help="Let a push install the toolchain that it needs and the host does not have.",
)  # fmt: skip
@as_json
def source_command(mirror: str | None, automatic: str | None, as_json: bool) -> None:
    """Show, or change, the source of toolchains.

    A mirror has the layout of Hex' builds: builds/elixir/builds.txt, builds/otp/….

    \b
    Examples:
      gatling toolchain source
      gatling toolchain source --mirror https://mirror.example.com/hex --automatic on
    """
    from gatling.operations import toolchains

    if mirror is None and automatic is None:
        with opened() as gatling:
            found = toolchains.source(gatling)
    else:
        wanted = None if automatic is None else automatic == "on"
        with created(lambda _: toolchains.check_mirror(mirror)) as gatling:
            found = toolchains.set_source(gatling, mirror, automatic=wanted)
    if as_json:
        print_json(found)
        return
    echo(f"Toolchains are downloaded from {found.mirror}.")
    if found.open:
        echo(
            "This mirror is not encrypted. Others on the network can replace the toolchains, and"
            " their checksums, that every build then runs."
        )
    if found.automatic:
        echo("A push installs the toolchain that it needs.")
    else:
        echo(
            "A push that needs a missing toolchain is rejected, with the command that installs it."
        )
