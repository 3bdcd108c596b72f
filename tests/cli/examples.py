"""The command lines that help, documents and errors give as examples."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from typing import TYPE_CHECKING

import click

from gatling.cli import cli
from gatling.cli.words import with_app
from gatling.ssh import policy
from tests.cli.conftest import tree
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted((ROOT / "src/gatling").rglob("*.py"))
OPERATORS = {"|", "||", "&&", ";", "&", ">", ">>"}


def blocks(page: Path, language: str) -> list[str]:
    """What stands between ```language and ``` on a page."""
    found = re.findall(
        rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL
    )
    return [inspect.cleandoc(text) for text in found]


def of_help() -> Iterator[tuple[str, str]]:
    """Each line below `Example:` in a command's help, with the command's words."""
    for words, command in tree(cli):
        _, _, lines = inspect.cleandoc(command.help or "").partition("Example")
        for line in lines.splitlines()[1:]:
            yield " ".join(words), line.strip()


def of_blocks() -> Iterator[tuple[str, str]]:
    """Each line of each shell block of the documents, with the page's name.

    In a block of a terminal (`console`), a line of shell begins with a prompt: `$`, `#`, `old#`.
    """
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                yield page.name, line
        for block in blocks(page, "console"):
            yield from ((page.name, line) for line in re.findall(r"(?m)^[a-z]*[$#] (.+)$", block))


def of_text() -> Iterator[tuple[str, str]]:
    """What stands in backticks in documents and errors and begins as a command does."""
    for page in PAGES:
        prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        yield from ((page.name, said) for said in _quoted(prose))
    for source in SOURCES:
        for text in _texts(ast.parse(source.read_text())):
            yield from ((source.name, said) for said in _quoted(text))


def called(line: str) -> list[list[str]]:
    """The words after each `gatling` (or `ssh gatling@…`) of a line of shell."""
    line = re.sub(r"<([\w ]+)>", "PLACEHOLDER", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in OPERATORS:
            commands.append([])
        else:
            commands[-1].append(word)
    found = []
    for words in commands:
        if words[:1] == ["sudo"]:
            del words[0]
        if words[:1] == ["gatling"] or re.match(r"ssh gatling@\S+ ", " ".join(words)):
            rest = words[1 if words[0] == "gatling" else 2 :]
            found.append(rest[: rest.index("<")] if "<" in rest else rest)
    return found


def parse(words: Sequence[str]) -> str:
    """The command that reads these words; raises click.UsageError when none can.

    Nothing is run; a file need not be there.
    """
    path: list[str] = []
    if list(words) == ["--version"]:
        return ""
    context = cli.make_context("gatling", with_app(cli, words))
    while isinstance(context.command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        assert name
        assert command
        path.append(name)
        try:
            context = command.make_context(name, rest, parent=context)
        except click.MissingParameter:
            raise
        except click.BadParameter as error:
            if error.param is None or not policy._uses_files(error.param.type):
                raise
            break
    return " ".join(path)


def is_name(words: Sequence[str]) -> bool:
    """Whether the words are a command's or a group's own, without any for it to read."""
    command: click.Command | None = cli
    for word in words:
        if not isinstance(command, click.Group):
            return False
        if not word.islower():
            return True  # `gatling config …`: one of the group's
        command = command.get_command(click.Context(command), word)
    return command is not None


def _quoted(text: str) -> list[str]:
    # an option or argument in brackets may be left out, so it may be there as well
    found = [re.sub(r"\s+", " ", said) for said in re.findall(r"`([^`]*)`", text)]
    found = [re.sub(r"\bID\b", "12", said) for said in found]
    return [re.sub(r" \[(.*?)\]", r" \1", s) for s in found if re.match(r"(sudo )?gatling ", s)]


def _texts(tree: ast.AST) -> Iterator[str]:
    """All texts of a program; each value within one is `VALUE`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = node.values
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "VALUE" for p in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
