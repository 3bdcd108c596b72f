"""The debug log keeps what a user is not shown."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from gatling import debuglog
from gatling.errors import DiskFull, NotFound, Unexpected

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATLING_HOME", str(tmp_path))
    monkeypatch.delenv("GATLING_DEBUG", raising=False)
    return tmp_path


def raised(error: Exception, password: str = "hunter2") -> Exception:  # noqa: S107
    try:
        raise error
    except Exception as caught:  # noqa: BLE001
        return caught


def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(home: Path) -> None:
    told = debuglog.explained(raised(TypeError("'int' object is not iterable")), "the recovery")
    assert isinstance(told, Unexpected)
    assert "the recovery" in told.what
    assert "TypeError" not in told.what + told.hint
    assert str(home / "debug.log") in told.hint
    logged = (home / "debug.log").read_text()
    assert "the recovery" in logged
    assert "TypeError: 'int' object is not iterable" in logged
    assert "in raised" in logged
    assert "hunter2" not in logged
    assert (home / "debug.log").stat().st_mode & 0o777 == 0o600


def test_an_error_of_gatling_s_own_stays_as_it_is(home: Path) -> None:
    error = NotFound("There is no app.")
    assert debuglog.explained(error) is error
    assert not (home / "debug.log").exists()


def test_known_kinds_of_errors_are_told_apart(home: Path) -> None:
    assert isinstance(debuglog.explained(OSError(28, "No space left", "/x")), DiskFull)
    told = debuglog.explained(PermissionError(13, "Permission denied", "/some/file"))
    assert told.what == "/some/file: Permission denied."
    assert "memory" in debuglog.explained(MemoryError()).what
    assert "UNIQUE" in debuglog.explained(sqlite3.IntegrityError("UNIQUE constraint failed")).what


def test_the_log_is_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debuglog, "MAX_BYTES", 5000)
    for number in range(100):
        debuglog.write(f"number {number}", raised(ValueError("x" * 200)))
    assert {path.name for path in home.iterdir()} == {"debug.log", "debug.log.1"}
    assert sum(path.stat().st_size for path in home.iterdir()) < 12_000
    assert "number 99" in (home / "debug.log").read_text()


def test_a_huge_message_does_not_fill_the_disk(home: Path) -> None:
    debuglog.write("x", raised(ValueError("y" * 10_000_000)))
    assert (home / "debug.log").stat().st_size < 70_000


def test_escape_sequences_in_messages_are_made_visible(home: Path) -> None:
    debuglog.write("x", raised(ValueError("\x1b]0;title\x07")))
    assert "\x1b" not in (home / "debug.log").read_text()


def test_a_home_that_is_not_there_is_not_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATLING_HOME", str(home / "nowhere"))
    told = debuglog.explained(raised(TypeError("x")))
    assert "GATLING_DEBUG=1" in told.hint
    assert list(home.iterdir()) == []


def test_no_link_is_followed(home: Path) -> None:
    (home / "elsewhere").write_text("kept")
    (home / "debug.log").symlink_to(home / "elsewhere")
    assert debuglog.write("x", raised(TypeError("x"))) is None
    assert (home / "elsewhere").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a directory of somebody else's")
def test_nothing_is_written_into_a_directory_of_somebody_else(home: Path) -> None:
    os.chown(home, 65534, 65534)
    assert debuglog.write("x", raised(TypeError("x"))) is None


def test_with_the_variable_it_is_printed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    debuglog.command(["true"], None)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("GATLING_DEBUG", "1")
    debuglog.explained(raised(NotFound("There is no app.")))
    assert "Traceback" in capsys.readouterr().err
    debuglog.command(["git", "fetch", "https://ann:hunter2@git.example/x"], home)
    printed = capsys.readouterr().err
    assert "git fetch https://…@git.example/x" in printed
    assert "hunter2" not in printed
