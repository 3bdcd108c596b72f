"""What users of Heroku, fly, dokku, kamal and gh type: each works, or is answered."""

from __future__ import annotations

import pytest

from gatling.cli import cli, habits, words
from gatling.cli.suggestions import HIDDEN
from tests.cli.conftest import tree
from tests.cli.habits import outcome, table

HARMFUL = {"unload", "stop", "down", "remove", "unset", "off", "cancel", "uninstall", "restore"}
COMMANDS = {" ".join(names): command for names, command in tree(cli)}


@pytest.mark.parametrize(("typed", "came"), table().items())
def test_what_comes_of_a_habit(typed: str, came: str) -> None:
    """`python -m tests.cli.habits` writes the table again; look at what changes."""
    assert outcome(typed) == came


def test_there_are_a_hundred_of_them_and_few_are_not_understood() -> None:
    lost = [typed for typed, came in table().items() if came.endswith(f"{typed.split()[0]}'.")]
    assert len(table()) > 150
    assert set(lost) <= {"stpo", "unlod", "recovr"}  # for these, no guess is better than one


def test_an_alias_is_of_a_command_and_removes_nothing() -> None:
    for typed, ours in habits.ALIASES.items():
        path = [word for word in ours.split() if word[0] != "-"]
        assert not path or " ".join(path) in COMMANDS, typed
        assert not HARMFUL - {"off"} & set(path), typed
        assert not HIDDEN & set(path)


@pytest.mark.parametrize("typed", [*habits.ALIASES, *habits.ANSWERS])
def test_no_habit_hides_a_command(typed: str) -> None:
    if typed != "-v":
        found = words.find(cli, typed.split())
        assert found.rest, typed
        if words.takes_app(found.command):  # `releases info` is about an app called info,
            assert habits.translated(cli, typed.split()) == typed.split()  # unlike `releases:info`


def test_what_is_ours_stays_as_it_is() -> None:
    for name in COMMANDS:
        typed = [*name.split(), "secrets", "--json"]
        if name not in (
            "config",
            "settings",
            "domains",
            "drains",
            "certificates",
            "auth",
            "jobs",
            "help",
        ):  # they mean their list
            assert habits.translated(cli, typed) == typed


def test_a_leading_name_of_the_program() -> None:
    assert habits.translated(cli, ["gatling", "ps:scale", "-a", "x"]) == ["scale", "-a", "x"]
    assert habits.translated(cli, ["config", "help"]) == ["help", "config"]
    assert habits.translated(cli, ["help", "secrets", "set"]) == ["help", "config", "set"]
    assert outcome("ps --help").startswith("→ Usage: gatling status")
