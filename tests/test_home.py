"""The home: where it may lie, who may read it, and files that are whole at any moment."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling import __version__, files
from gatling.errors import Exit, InvalidInput
from gatling.paths import default_root
from gatling.platform.embedded.home import EmbeddedHome
from gatling.platform.homes import open_home

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path: a unix socket's is limited."""
    path = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_for_its_user_alone(short: Path) -> None:
    before = os.umask(0)
    try:
        home = open_home(short / "deep/home")
    finally:
        os.umask(before)
    directories = [p for p in (home.root, *home.root.rglob("*")) if p.is_dir()]
    assert {mode(path) for path in directories} == {0o700}
    assert {p.name for p in directories} >= {"apps", "bin", "run", "supervisor", "nginx"}
    assert mode(home.command) == 0o700


@pytest.mark.parametrize("name", ["home", "two words", "ü", "dots.and-dashes_", "(a) 1, b"])
def test_paths_that_will_do(short: Path, name: str) -> None:
    home = open_home(short / name)
    assert home.root == short / name
    done = subprocess.run(
        [home.command, "--version"], check=True, capture_output=True, text=True, cwd="/"
    )
    assert done.stdout == f"gatling {__version__}\n"


@pytest.mark.parametrize("character", list("\n\r\"'\\$;{}%"))
def test_characters_that_configurations_cannot_take(short: Path, character: str) -> None:
    with pytest.raises(InvalidInput, match="nginx does not accept") as caught:
        open_home(short / f"a{character}b")
    assert "GATLING_HOME" in caught.value.hint
    assert list(short.iterdir()) == []


def test_a_path_too_long_for_a_socket(short: Path) -> None:
    with pytest.raises(InvalidInput, match="too long for a unix socket") as caught:
        open_home(short / ("é" * 60))  # counted in bytes
    assert caught.value.exit_status == Exit.INVALID
    assert list(short.iterdir()) == []


def test_what_is_no_directory(short: Path) -> None:
    file = short / "file"
    file.write_text("mine")
    for path in (file, file / "below"):
        with pytest.raises(InvalidInput, match="not a directory"):
            open_home(path)
    assert file.read_text() == "mine"


def test_opened_again_it_stays_as_it_is(short: Path) -> None:
    home = open_home(short / "home")
    (home.root / "apps/shop").mkdir()
    home.root.chmod(0o755)  # a choice of its user
    before = home.command.stat()
    again = open_home(short / "home")
    assert again == home
    assert (home.root / "apps/shop").is_dir()
    assert mode(home.root) == 0o755
    after = home.command.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_its_command_is_put_right(short: Path) -> None:
    home = open_home(short / "home")
    text = home.command.read_text()
    assert sys.executable in text
    home.command.write_text("#!/bin/sh\nexit 1\n")
    assert open_home(home.root).command.read_text() == text
    home.command.unlink()
    assert open_home(home.root).command.read_text() == text
    assert [p.name for p in home.command.parent.iterdir()] == ["gatling"]


def test_its_command_knows_where_it_belongs_and_heeds_no_python_variables(short: Path) -> None:
    home = open_home(short / "home")
    (short / "click.py").write_text("raise SystemExit('not this one')")
    env = {"PATH": os.environ["PATH"], "GATLING_HOME": "/elsewhere", "PYTHONPATH": str(short)}
    done = subprocess.run(
        [home.command, "status", "shop"], check=False, capture_output=True, text=True, env=env,
        cwd=short,
    )  # fmt: skip
    assert done.returncode == Exit.NOT_FOUND, done.stderr
    assert f"on this machine ({home.root})" in done.stderr


def test_the_home_in_use(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    monkeypatch.setenv("GATLING_HOME", "relative/home")
    monkeypatch.chdir(short)
    assert open_home().root == short / "relative/home"
    monkeypatch.setenv("HOME", str(short))
    for nothing in ("", None):
        if nothing is None:
            monkeypatch.delenv("GATLING_HOME")
        else:
            monkeypatch.setenv("GATLING_HOME", nothing)
        assert default_root() == short / ".gatling"


def test_apps_keep_to_their_own_places(short: Path) -> None:
    home = EmbeddedHome(short / "home")
    shop, shop2 = home.app("shop"), home.app("shop2")
    places = [
        [p.repository, p.lock, p.source, p.staging, p.release(1), p.release(12), p.slot(1),
         p.slot(2), p.route, p.instance_log, p.deployment_log(1), p.deployment_log(12)]
        for p in (shop, shop2)
    ]  # fmt: skip
    everything = places[0] + places[1]
    assert len(set(everything)) == len(everything)
    assert all(place.is_relative_to(home.root / "apps") for place in everything)
    assert not any(place.is_relative_to(shop.root) for place in places[1])


@pytest.mark.parametrize("wanted", [0o600, 0o700, 0o644])
def test_a_file_is_written_with_its_mode(tmp_path: Path, wanted: int) -> None:
    path = tmp_path / "file"
    before = os.umask(0o077)
    try:
        files.write(path, "é\n", mode=wanted)
        assert mode(path) == wanted
        path.chmod(0o777)
        files.write(path, "again", mode=wanted)
    finally:
        os.umask(before)
    assert (mode(path), path.read_text()) == (wanted, "again")
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, "before")
    with pytest.raises(UnicodeEncodeError):
        files.write(path, "not text: \ud800")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    directory = tmp_path / "directory"
    directory.mkdir()
    with pytest.raises(IsADirectoryError):
        files.write(directory, "text")
    assert sorted(tmp_path.iterdir()) == [directory, path]


def test_a_reader_sees_the_old_text_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = [letter * 200_000 for letter in "ab"]
    files.write(path, texts[0])
    seen: set[str] = set()
    stop = threading.Event()

    def read() -> None:
        while True:
            seen.add(path.read_text())
            if stop.is_set():
                break

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(40):
        files.write(path, texts[n % 2])
    stop.set()
    reader.join()
    assert seen
    assert seen <= set(texts)
