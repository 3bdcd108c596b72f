"""The manual page gatling(1), from the help of all commands; groff_man(7) describes the format."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import click

from gatling import __version__
from gatling.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

_ESCAPED = {"\\": r"\(rs", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
"""Characters that troff prints as another one, or reads as a command."""
_ENVIRONMENT = {
    "GATLING_HOST": "The server, such as gatling@web1.example.com:22.",
    "GATLING_APP": "The app.",
    "GATLING_HOME": "The home on this machine. Default: ~/.gatling.",
    "GATLING_DEBUG": "With the value 1, print the programs that Gatling runs, and tracebacks.",
    "NO_COLOR": "With any value, no colours are printed.",
}


def page(root: click.Command) -> str:
    """The manual page of a command line, as text for man(1)."""
    top = click.Context(root, info_name="gatling", **root.context_settings)
    lines = [
        f'.TH GATLING 1 "" "Gatling {_escaped(__version__)}" "Gatling"',
        ".SH NAME", rf"gatling \- {_escaped(_subject(root))}",
        ".SH SYNOPSIS", ".B gatling", _escaped(" ".join(root.collect_usage_pieces(top))),
        ".SH DESCRIPTION", *_prose(root.help or ""), *_options(top, ".SH OPTIONS"),
        ".SH COMMANDS",
    ]  # fmt: skip
    for context in shown(root):
        command = context.command
        pieces = " ".join(command.collect_usage_pieces(context))
        lines.append(f".SS {_escaped(f'{context.command_path} {pieces}')}")
        lines += [*_prose(command.help or ""), *_options(context)]
    lines.append(".SH ENVIRONMENT")
    for name, meaning in _ENVIRONMENT.items():
        lines += _entry(name, meaning)
    lines.append(".SH EXIT STATUS")
    for status in Exit:
        lines += _entry(str(status.value), f"{status.name.replace('_', ' ').capitalize()}.")
    lines += [".SH SEE ALSO", ".BR git (1),", ".BR ssh (1)"]
    return "\n".join(lines) + "\n"


def shown(root: click.Command) -> Iterator[click.Context]:
    """All commands that are neither hidden nor groups, in the order of the help."""
    yield from _below(click.Context(root, info_name="gatling", **root.context_settings))


def _below(parent: click.Context) -> Iterator[click.Context]:
    group = parent.command
    if not isinstance(group, click.Group):
        yield parent
        return
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is not None and not command.hidden:
            yield from _below(click.Context(command, info_name=name, parent=parent))


def _subject(root: click.Command) -> str:
    """The first sentence of the help, as it follows the name of a program."""
    first = inspect.cleandoc(root.help or "").partition("\n")[0].rstrip(".")
    return first[:1].lower() + first[1:]


def _prose(text: str) -> Iterator[str]:
    """The paragraphs of a help text. Lines of a paragraph that begins with \\b stay as they are."""
    for paragraph in re.split(r"\n{2,}", inspect.cleandoc(text)):
        yield ".PP"
        if paragraph.startswith("\b\n"):
            yield from (".nf", *map(_escaped, paragraph.split("\n")[1:]), ".fi")
        else:
            yield _escaped(" ".join(paragraph.split()))


def _options(context: click.Context, heading: str = "") -> list[str]:
    """The options of a command but --help, which all of them have."""
    records = [
        record
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and (record := parameter.get_help_record(context)) is not None
    ]
    entries = [line for names, meaning in records for line in _entry(names, meaning)]
    return [heading, *entries] if heading and entries else entries


def _entry(name: str, meaning: str) -> list[str]:
    return [".TP", rf"\fB{_escaped(name)}\fP", _escaped(" ".join(meaning.split()))]


def _escaped(line: str) -> str:
    """A line as troff prints it: a request begins with a dot, and all else is ASCII."""
    text = "".join(_ESCAPED.get(c, c) if c.isascii() else rf"\[u{ord(c):04X}]" for c in line)
    return rf"\&{text}" if text.startswith(".") else text
