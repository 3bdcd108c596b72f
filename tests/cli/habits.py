"""What people type who know other platforms, and what came of it.

habits.txt has both. `python -m tests.cli.habits` types each line and writes it again.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import click

from gatling.cli import run_command_line

TABLE = Path(__file__).with_suffix(".txt")


def outcome(line: str) -> str:
    """What comes of a line in the project of the app shop: `→ status shop`, or what is answered.

    A command that would run does not.
    """
    real, ran = click.Command.invoke, []

    def invoke(command: click.Command, context: click.Context) -> Any:
        if isinstance(command, click.Group):
            return real(command, context)
        words = [context.command_path.removeprefix("gatling ")]
        for parameter in command.params:
            value = context.params.get(parameter.name or "")
            if isinstance(parameter, click.Argument):
                words += value if isinstance(value, tuple) else [value] if value else []
            elif value is True and f"--{parameter.name}" not in words:
                words.append(f"--{parameter.name}")
        ran.append(" ".join(map(str, words)))
        return None

    output = io.StringIO()
    with (
        tempfile.TemporaryFile("w+") as errors,
        tempfile.TemporaryDirectory() as home,
        mock.patch.dict(os.environ, {"GATLING_HOME": home, "GATLING_APP": "shop"}),
        mock.patch.object(click.Command, "invoke", invoke),
        mock.patch.object(sys, "argv", ["gatling", *line.split()]),
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(output),
    ):
        run_command_line()
        errors.seek(0)
        text = errors.read()
    if ran:
        return f"→ {ran[0]}"
    if text.startswith("Usage:") and "Commands:" in text:
        return "→ help"
    if output.getvalue().startswith(("Usage:", "gatling ")):
        return "→ " + output.getvalue().splitlines()[0]
    said = text.replace(" !     ", "").splitlines()
    shown = [
        one for one in said
        if one and not one.startswith(("Usage:", "shop on")) and not one.endswith("explains it.")
    ]  # fmt: skip
    return " ".join(shown)


def table() -> dict[str, str]:
    """Typed → what came of it, as the file has it."""
    return dict(line.split(" ⇒ ", 1) for line in TABLE.read_text().splitlines())


if __name__ == "__main__":
    TABLE.write_text("".join(f"{typed} ⇒ {outcome(typed)}\n" for typed in table()))
