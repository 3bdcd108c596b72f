"""`gatling config`: what is typed, piped or read from a file is stored, and stays secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell

GENERATED = {"SECRET_KEY_BASE", "RELEASE_COOKIE"}


def values(shop: Shell) -> dict[str, str]:
    listed: dict[str, str] = shop.json("config", "list", "shop")
    return {name: value for name, value in listed.items() if name not in GENERATED}


def test_a_new_app_has_secrets_of_its_own(shop: Shell) -> None:
    shop.run("load", "blog")
    first, second = (shop.json("config", "list", app) for app in ("shop", "blog"))
    assert set(first) == set(second) == GENERATED
    assert not set(first.values()) & set(second.values())
    assert len(first["SECRET_KEY_BASE"]) >= 64
    assert len(first["RELEASE_COOKIE"]) >= 32


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("A=1", "A", "1"),
        ("A=", "A", ""),
        ("A=b=c==", "A", "b=c=="),
        ("A= two words ", "A", " two words "),
        ("A=two\nlines\n", "A", "two\nlines\n"),
        ("A='quoted' $(id) \\", "A", "'quoted' $(id) \\"),
        ("lower_Case9=é", "lower_Case9", "é"),
        ("RELEASE_COOKIE=mine", "RELEASE_COOKIE", "mine"),
    ],
)
def test_what_is_typed_is_what_is_stored(shop: Shell, text: str, name: str, value: str) -> None:
    shop.run("config", "set", "shop", text)
    assert shop.json("config", "list", "shop")[name] == value
    assert shop.run("config", "get", "shop", name).out == f"{value}\n"


def test_several_at_once(shop: Shell, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(b"-----BEGIN\nx\n\n")
    arguments = ["A=1", "B=2", "--stdin", "C", "--file", "D", str(file), "--file", "E", str(file)]
    shop.run("config", "set", "shop", *arguments, stdin=b"piped\n\n")
    assert values(shop) == {
        "A": "1", "B": "2",
        "C": "piped\n",  # what `echo` adds is no part of it, and nothing else is taken away
        "D": "-----BEGIN\nx\n\n", "E": "-----BEGIN\nx\n\n",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("GOOD=1", "hidden"), Exit.INVALID, "has no '='"),
        (("GOOD=1", "BAD NAME=hidden"), Exit.INVALID, "cannot be a variable's name"),
        (("GOOD=1", "=hidden"), Exit.INVALID, "cannot be a variable's name"),
        (("GOOD=1", "PORT=hidden"), Exit.INVALID, "set by Gatling"),
        (("GOOD=1", "RELEASE_NODE=hidden"), Exit.INVALID, "set by Gatling"),
        (("GOOD=1", f"BIG=hidden{'x' * 123_000}"), Exit.INVALID, "at most"),
        ((), Exit.USAGE, "Nothing to set"),
    ],
)
def test_one_that_is_wrong_changes_nothing(
    shop: Shell, arguments: tuple[str, ...], status: Exit, why: str
) -> None:
    before = shop.json("config", "list", "shop")
    said = shop.run("config", "set", "shop", *arguments, status=status)
    assert why in said.err
    assert shop.json("config", "list", "shop") == before
    if "=" in " ".join(arguments[1:]):
        assert "hidden" not in said.out + said.err


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"a\0b"])
@pytest.mark.parametrize("source", ["stdin", "file"])
def test_bytes_that_no_environment_can_hold(
    shop: Shell, tmp_path: Path, raw: bytes, source: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(raw)
    given = ["--stdin", "KEY"] if source == "stdin" else ["--file", "KEY", str(file)]
    said = shop.run("config", "set", "shop", *given, stdin=raw, status=Exit.INVALID)
    assert "KEY" in said.err
    assert values(shop) == {}


def test_values_are_shown_only_when_asked_for(shop: Shell) -> None:
    shop.run("config", "set", "shop", "KEY=hidden\nvalue")
    listed = shop.run("config", "list", "shop").out
    assert "KEY" in listed
    assert "12 characters" in listed
    assert "hidden" not in listed
    shown = shop.run("config", "list", "shop", "--show").out
    assert r"hidden\nvalue" in shown  # on one line


def test_the_audit_names_variables_and_never_values(shop: Shell) -> None:
    shop.run("config", "set", "shop", "KEY=hidden")
    shop.run("config", "unset", "shop", "KEY")
    text = shop.run("audit", "shop").out
    assert "set KEY" in text
    assert "unset KEY" in text
    assert "hidden" not in text


def test_nothing_changes(shop: Shell) -> None:
    shop.run("config", "set", "shop", "KEY=1")
    before = shop.json("audit", "shop")
    assert "Nothing to change" in shop.run("config", "set", "shop", "KEY=1").out
    assert shop.json("audit", "shop") == before


def test_variables_are_unset_all_or_none(shop: Shell) -> None:
    shop.run("config", "set", "shop", "A=1", "B=2")
    said = shop.run("config", "unset", "shop", "A", "NOPE", status=Exit.NOT_FOUND)
    assert "NOPE" in said.err
    assert values(shop) == {"A": "1", "B": "2"}
    shop.run("config", "unset", "shop", "A", "B")
    assert values(shop) == {}
    said = shop.run("config", "get", "shop", "A", status=Exit.NOT_FOUND)
    assert "no variable A" in said.err
