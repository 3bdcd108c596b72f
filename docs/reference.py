"""Write docs/commands.md and docs/settings.md from what the code says of itself.

python docs/reference.py
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import click

from gatling.cli import cli
from gatling.errors import Exit, GatlingError
from gatling.project import settings

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/reference.py. -->\n"


def commands() -> str:
    """All commands with their help, and the exit statuses."""
    parts = []
    parts.append(
        f"{NOTE}# Commands\n\nEvery command takes `--help`. `$GATLING_HOME` names the home"
        " (default `~/.gatling`).\n\n"
    )
    context = click.Context(cli, info_name="gatling", **cli.context_settings)
    for name in cli.list_commands(context):
        parts += _command(cli.get_command(context, name), context, name)
    parts.append("## Exit statuses\n\n| status | name | errors |\n|---|---|---|\n")
    by_status: dict[Exit, list[str]] = {}
    errors: list[type[GatlingError]] = [GatlingError, *GatlingError.__subclasses__()]
    for error in errors:
        by_status.setdefault(error.exit_status, []).append(error.__name__)
    for status in Exit:
        names = ", ".join(by_status.get(status, [])) or "–"
        parts.append(f"| {status.value} | {status.name} | {names} |\n")
    return "".join(parts).rstrip() + "\n"


def all_settings() -> str:
    """All settings: key, default, meaning."""
    lines = []
    lines.append(
        f"{NOTE}# Settings\n\n`gatling settings set APP KEY=VALUE`; the next deployment follows"
        " them.\n\n| key | default | meaning |\n|---|---|---|\n"
    )
    defaults = settings.describe(settings.Settings())
    for key, default in defaults.items():
        section, _, name = key.partition(".")
        model = type(getattr(settings.Settings(), section))
        shown = f"`{default}`" if default != "" else "–"
        lines.append(f"| `{key}` | {shown} | {_docs(model)[name]} |\n")
    return "".join(lines)


def _command(command: click.Command | None, parent: click.Context, name: str) -> list[str]:
    if command is None or command.hidden:
        return []
    context = click.Context(command, info_name=name, parent=parent)
    if isinstance(command, click.Group):
        parts = []
        for sub in command.list_commands(context):
            parts += _command(command.get_command(context, sub), context, sub)
        return parts
    return [f"## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n\n"]


def _docs(model: type) -> dict[str, str]:
    """The text below each field of a model."""
    (tree,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr)
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands())
    (DOCS / "settings.md").write_text(all_settings())
