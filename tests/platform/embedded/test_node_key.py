"""The file with an app's key, and what is done where the kernel signs nothing."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

import pytest

from gatling import files
from gatling.platform.embedded import node_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _asked_again() -> Iterator[None]:
    node_key.is_supported.cache_clear()
    yield
    node_key.is_supported.cache_clear()


def test_a_key_is_made_once(tmp_path: Path) -> None:
    if not node_key.is_supported():
        pytest.skip("the kernel signs nothing")
    file = node_key.ensure(tmp_path)
    assert file == tmp_path / "node.config"
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert node_key.ensure(tmp_path) == file
    assert file.read_text() == text
    ((level, option, value),) = node_key.options(file)
    assert (level, option, len(value)) == (socket.IPPROTO_TCP, 32, 216)
    assert text.count(",".join(map(str, value))) == 2, "for who listens and who connects"
    other = node_key.ensure(tmp_path.parent)
    assert other is not None
    assert node_key.options(other) != node_key.options(file)
    other.unlink()


def test_without_a_kernel_that_signs_there_is_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: socket.socket, *__: Any) -> None:
        raise OSError(errno.ENOPROTOOPT, "not available")

    monkeypatch.setattr(socket.socket, "setsockopt", refuse)
    assert node_key.ensure(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_who_comes_second_takes_the_key_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not node_key.is_supported():
        pytest.skip("the kernel signs nothing")
    write = files.write

    def slowly(file: Path, text: str) -> None:
        (tmp_path / "node.config").write_text("the other's\n")
        write(file, text)

    monkeypatch.setattr(files, "write", slowly)
    assert node_key.ensure(tmp_path) == tmp_path / "node.config"
    assert [file.name for file in tmp_path.iterdir()] == ["node.config"]
    assert (tmp_path / "node.config").read_text() == "the other's\n"


def test_without_room_for_it_there_is_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path, __: str) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(files, "write", full)
    assert node_key.ensure(tmp_path) is None


def test_a_path_with_blanks_is_one_word(tmp_path: Path) -> None:
    assert node_key.argument(tmp_path / "my home/node.config").endswith("/my home/node'")


def test_a_file_that_is_gone_or_damaged_has_no_option(tmp_path: Path) -> None:
    assert node_key.options(tmp_path / "node.config") == ()
    (tmp_path / "node.config").write_text("[].\n")
    assert node_key.options(tmp_path / "node.config") == ()
