"""No traceback reaches a user: what happened is one line, and the rest is in the debug log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit, GatlingError
from gatling.platform.homes import open_home
from gatling.state import apps, audit
from gatling.state.database import open_database

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell


def test_a_stray_file_where_an_app_s_directory_should_be(shell: Shell) -> None:
    open_home(shell.home)
    (shell.home / "apps" / "shop").write_text("stray")
    said = shell.run("load", "shop", status=Exit.FAILURE)
    assert f" !     {shell.home}/apps/shop" in said.err
    assert f"{shell.home}/debug.log" in said.err
    assert "Traceback" in (shell.home / "debug.log").read_text()


@pytest.mark.parametrize(
    "error",
    [TypeError("x"), KeyError("x"), RecursionError(), sqlite3.IntegrityError("UNIQUE"),
     MemoryError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), OSError(5, "I/O error", "/f"),
     OSError(28, "No space left on device", "/f"), AssertionError()],
)  # fmt: skip
def test_whatever_is_raised_is_told_in_a_line_or_two(
    shop: Shell, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(apps, "get", fails)
    said = shop.run("status", "shop", status=8 if getattr(error, "errno", 0) == 28 else 1)
    assert re.fullmatch(r"( !     .+\n){1,2}", said.err), said.err
    assert type(error).__name__ not in said.err
    assert type(error).__name__ in (shop.home / "debug.log").read_text()


def test_a_damaged_state_file(shop: Shell) -> None:
    for file in shop.home.glob("state.db*"):
        file.unlink()
    (shop.home / "state.db").write_bytes(b"no database at all" * 1000)
    said = shop.run("apps", status=Exit.FAILURE)
    assert "The state file cannot be used: file is not a database." in said.err
    assert "from a backup" in said.err


def test_a_home_of_a_newer_version(shop: Shell) -> None:
    with sqlite3.connect(shop.home / "state.db") as db:
        db.execute("PRAGMA user_version = 999")
    assert "newer Gatling" in shop.run("apps", status=Exit.FAILURE).err


def test_errors_for_programs(shop: Shell) -> None:
    said = json.loads(shop.run("status", "nobody", "--json", status=Exit.NOT_FOUND).err)
    assert said["error"]["code"] == "not-found"
    assert "nobody" in said["error"]["message"]
    assert "gatling load nobody" in said["error"]["hint"]
    said = json.loads(shop.run("status", "--json", status=Exit.USAGE).err)
    assert said["error"]["code"] == "usage"


def test_each_kind_of_error_has_a_code_of_its_own() -> None:
    def below(kind: type[GatlingError]) -> list[type[GatlingError]]:
        return [kind, *(one for direct in kind.__subclasses__() for one in below(direct))]

    codes = [k.code for k in below(GatlingError) if k.__module__ == GatlingError.__module__]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


def test_a_reader_who_leaves_is_no_error(shop: Shell) -> None:
    command = f"{sys.executable} -m gatling settings list shop | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_module_that_cannot_be_loaded(shop: Shell, tmp_path: Path) -> None:
    """An installation that is being replaced, say."""
    (tmp_path / "click.py").write_text("raise ImportError('half of it')\n")
    done = subprocess.run(
        [sys.executable, "-m", "gatling", "apps"],
        check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "debug.log" in done.stderr
    assert "half of it" in (shop.home / "debug.log").read_text()


@pytest.mark.parametrize("words", [("receive", "shop"), ("ssh-command", "ann")])
def test_neither_do_the_commands_of_git_and_sshd_show_one(
    shop: Shell, words: tuple[str, ...]
) -> None:
    (shop.home / "state.db").write_bytes(b"no database at all" * 1000)
    done = subprocess.run(
        [sys.executable, "-m", "gatling", *words],
        check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "SSH_ORIGINAL_COMMAND": "apps"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(" !     The state file cannot be used")


def test_escape_sequences_are_made_visible_in_tables_and_lines(shop: Shell) -> None:
    with contextlib.closing(open_database(shop.home / "state.db")) as db:
        audit.record(db, "eve", "shop", "deploy", "a\x1b]0;title\x07\nb\x9b2J")
    said = shop.run("audit", "shop").out
    assert said.splitlines()[1].endswith(r"a\x1b]0;title\x07\nb\x9b2J")
    assert len(said.splitlines()) == 3  # a header, this one, load
    document = shop.run("audit", "shop", "--json").out
    assert not {"\x1b", "\x9b"} & set(document)
    assert json.loads(document)[0]["detail"] == "a\x1b]0;title\x07\nb\x9b2J"
