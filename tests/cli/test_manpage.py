"""The manual page has what the help has, and troff prints it as it is written."""

from __future__ import annotations

import inspect
import shutil
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from gatling.cli import cli, manpage
from gatling.cli.registry import COMMANDS
from tests.cli.conftest import tree

if TYPE_CHECKING:
    from tests.cli.conftest import Shell

needs_groff = pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")


def printed(page: str) -> str:
    """The page as groff prints it for a terminal, without bold letters."""
    plain = ("-P-c", "-P-b", "-P-o", "-P-u")
    done = subprocess.run(
        ["groff", "-ww", "-man", "-Tutf8", "-rLL=200n", *plain],
        input=page, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_every_command_and_its_options_are_in_it(shell: Shell) -> None:
    page = shell.run("help", "--man").out
    assert page == manpage.page(cli)
    assert page.isascii()
    shown = {context.command_path: context for context in manpage.shown(cli)}
    assert {path.split()[1] for path in shown} == {
        name for (name, *below), command in tree(cli)
        if name in COMMANDS and not below and not command.hidden
    }  # fmt: skip
    for path, context in shown.items():
        part = page.partition(f"\n.SS {path.replace('-', chr(92) + '-')} ")[2].partition("\n.S")[0]
        for parameter in context.command.params:
            is_shown = isinstance(parameter, click.Option) and not parameter.hidden
            for name in parameter.opts if is_shown else ():
                assert name.replace("-", r"\-") in part, (path, name)
    assert "\n.SS gatling receive" not in page
    shell.run("help", "--man", "config", status=2)


@needs_groff
def test_groff_has_no_warning_and_prints_examples_as_they_are_typed() -> None:
    text = printed(manpage.page(cli))
    for _, command in tree(cli):
        if command.hidden or isinstance(command, click.Group):
            continue
        _, _, examples = inspect.cleandoc(command.help or "").partition("\b\nExample")
        for line in examples.splitlines()[1:]:
            assert line.strip() in text


@needs_groff
def test_characters_that_troff_would_read_as_its_own() -> None:
    lines = (".sp 5", "'br", r"\fBa\n \b", "-–—`^~", '"…" × ’ é', "...")
    help_text = "First.\n\n\b\n" + "\n".join(lines)
    command = click.Command("odd", help=help_text, params=[click.Option(["--a'b", "ab"])])
    text = printed(manpage.page(click.Group("gatling", help="Odd.", commands={"odd": command})))
    for line in lines:
        assert f"\n       {line}\n" in text
    assert "--a'b TEXT" in text
