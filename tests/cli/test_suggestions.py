"""Help, and what is said to words that are no command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatling.cli import cli, remote, suggestions
from gatling.cli.registry import COMMANDS
from gatling.cli.summaries import SUMMARIES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell


def test_each_visible_command_has_its_own_first_sentence_in_the_help() -> None:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in COMMANDS}
    assert {
        name: command.get_short_help_str(limit=500)
        for name, command in found.items()
        if command is not None and not command.hidden
    } == SUMMARIES


def test_help_loads_no_command_and_cuts_no_line(shell: Shell) -> None:
    script = (
        "import sys; sys.argv = ['gatling', '--help']\n"
        "from gatling.__main__ import main; main()\n"
        "from gatling.cli.registry import COMMANDS\n"
        "print([m for m in ('common', *COMMANDS.values()) if f'gatling.cli.{m}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.rstrip().endswith("[]")
    assert "..." not in done.stdout.partition("Commands:")[2]


@given(st.text(min_size=1, max_size=12) | st.sampled_from(["stp", "remot", "recive", "dwn", "jb"]))
def test_no_guess_stops_or_removes_anything_or_is_hidden(word: str) -> None:
    said = suggestions.for_command([word], 0, COMMANDS)
    guessed = re.search("Did you mean '(.*)'", said)
    if guessed:
        assert guessed[1] in SUMMARIES
        assert guessed[1] not in ("stop", "down")


@pytest.mark.parametrize(
    ("word", "guess"),
    [("statsu", "status"), ("stast", "stats"), ("stat", "stats"), ("restrat", "restart"),
     ("unlaod", ""), ("rsta", "")],
)  # fmt: skip
def test_letters_in_another_order_come_first(word: str, guess: str) -> None:
    said = suggestions.for_command([word], 0, COMMANDS)
    assert said == (f" Did you mean {guess!r}?" if guess else "")


def test_nothing_is_guessed_where_only_the_right_word_is_missing() -> None:
    known = [name for name in COMMANDS if name != "restart"]
    assert suggestions.for_command(["restrat"], 0, known) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_directory_that_may_not_be_read(tmp_path: Path) -> None:
    """As in `sudo -u somebody gatling …` in root's own directory."""
    (tmp_path / "closed").mkdir(mode=0o700)
    child = os.fork()
    if child == 0:  # only a process of its own can change its user
        try:
            os.chdir(tmp_path / "closed")
            os.setuid(65534)
            os._exit(0 if remote.implied() is None else 1)
        finally:
            os._exit(2)  # reached only after an exception
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_app_before_the_command_of_a_group() -> None:
    said = suggestions.for_command(["maintenance", "shop", "on"], 1, ["on", "off"])
    assert said == " The app comes after the command: gatling maintenance on shop"
