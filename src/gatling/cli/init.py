"""`gatling init`: a gatling.toml to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from gatling.errors import InvalidInput
from gatling.ui.output import echo


@click.command("init")
def init_command() -> None:
    """Write a gatling.toml with all keys commented out to the current directory.

    The file is optional. Without it, all settings have their defaults.

    \b
    Example:
      cd ~/projects/shop && gatling init
    """
    from gatling.project import manifest, template

    file = Path(manifest.NAME)
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(template.commented())
    except FileExistsError:
        raise InvalidInput(f"There is already a {manifest.NAME} here.") from None
    except OSError as error:
        raise InvalidInput(f"{manifest.NAME} cannot be written: {error.strerror}.") from None
    if not Path("mix.exs").is_file():
        echo("There is no mix.exs here: is this the project's directory?", err=True)
    echo(f"{manifest.NAME} was written. Uncomment the settings that you want to change.")
