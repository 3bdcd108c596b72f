"""Commands on a machine without a home: only those that are meant to create one, and may, do so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from gatling.cli import cli
from gatling.errors import Exit
from gatling.operations import keys
from gatling.platform.open import open_gatling
from gatling.state import audit
from tests.cli.conftest import tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell

CREATE = {"up", "load", "server keys add"}
OF_THE_HOST = {"server install", "server uninstall", "server check", "server backup",
               "server restore", "server update"}  # fmt: skip
TYPED = {"app": "shop", "assignments": "A=1", "which": "shop.report", "domain": "shop.example.com"}
"""What is typed for the arguments of these names; a word for others."""
KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIODUsybq3cZr3fbKy2t/WtzvOvzOHgNhXrgKCg3nfp8n ann\n"


def typed() -> dict[str, tuple[str, ...]]:
    """Every command that creates no home, with all of its arguments."""
    found = {}
    for names, command in tree(cli):
        if isinstance(command, click.Group) or " ".join(names) in CREATE | OF_THE_HOST:
            continue
        arguments = [TYPED.get(one.name or "", "word") for one in command.params
                     if isinstance(one, click.Argument)]  # fmt: skip
        found[" ".join(names)] = (*names, *arguments)
    return found


@pytest.mark.parametrize("words", typed().values(), ids=typed())
def test_no_other_command_creates_a_home(
    shell: Shell, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = shell.try_run(*words)
    assert said.status in (Exit.OK, Exit.USAGE, Exit.INVALID, Exit.NOT_FOUND), said
    assert not shell.home.exists()


@pytest.mark.parametrize(
    ("words", "stdin", "variables"),
    [
        (("up", "--listen", "NONSENSE"), b"", {}),
        (("up", "--listen", "127.0.0.1:0"), b"", {}),
        (("up",), b"", {"GATLING_LISTEN": "NONSENSE"}),
        (("load", "Bad_Name"), b"", {}),
        (("load", "shop", "--dir", "../x"), b"", {}),
        (("load", "shop"), b"", {"GATLING_PORTS": "1-2"}),
        (("load", "shop"), b"", {"GATLING_LISTEN": "NONSENSE"}),
        (("server", "keys", "add", "ann", "--role", "admin"), b"not a key", {}),
        (("server", "keys", "add", "An n", "--role", "admin"), KEY, {}),
        (("server", "keys", "add", "ann", "--app", "Bad_Name"), KEY, {}),
    ],
)
def test_a_command_that_is_refused_leaves_no_home(
    shell: Shell, words: tuple[str, ...], stdin: bytes, variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shell.run(*words, stdin=stdin, status=Exit.INVALID)
    assert not shell.home.exists()


def test_what_creates_a_home_checks_an_existing_one_as_well(shop: Shell) -> None:
    shop.run("server", "keys", "add", "ann", "--role", "admin", stdin=KEY)
    for words, stdin in (
        (("load", "shop"), b""),
        (("server", "keys", "add", "ann", "--role", "admin"), KEY),
        (("server", "keys", "add", "bob", "--role", "admin"), KEY),
        (("up", "--listen", "NONSENSE"), b""),
    ):
        shop.run(*words, stdin=stdin, status=Exit.INVALID)
    with open_gatling() as gatling:
        assert [entry.action for entry in audit.latest(gatling.db)] == ["server keys add", "load"]
        keys.remove(gatling, "ann")


def test_an_app_that_does_not_exist_starts_nothing(shop: Shell) -> None:
    """The home's supervisor and proxy neither."""
    before = sorted(path.name for path in (shop.home / "run").iterdir())
    shop.run("start", "nosuch", status=Exit.NOT_FOUND)
    assert sorted(path.name for path in (shop.home / "run").iterdir()) == before
