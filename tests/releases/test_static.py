"""Digested files of several releases as one tree."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gatling.releases import static

if TYPE_CHECKING:
    from pathlib import Path

A, B = "a" * 32, "0123456789abcdef" * 2


def release(tmp_path: Path, number: int, files: dict[str, str], app: str = "shop-0.1.0") -> Path:
    tree = tmp_path / "releases" / f"v{number}"
    for name, text in files.items():
        file = tree / "lib" / app / "priv" / "static" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tree


def served(route: Path) -> dict[str, str]:
    root = route / "static"
    return {str(f.relative_to(root)): f.read_text() for f in root.rglob("*") if f.is_file()}


def publish(route: Path, *trees: Path) -> bool:
    return static.publish(route, trees, mode=0o755)


def test_files_of_all_lie_side_by_side_and_the_first_wins(tmp_path: Path) -> None:
    route = tmp_path / "route"
    old = release(tmp_path, 1, {f"assets/app-{A}.css": "old", f"assets/gone-{A}.js": "gone"})
    new = release(tmp_path, 2, {f"assets/app-{A}.css": "new", f"assets/app-{B}.css.gz": "gz"})
    other = release(tmp_path, 2, {f"x-{A}": "other's"}, app="other-1.0")
    assert other == new
    assert publish(route, new, old)
    assert served(route) == {
        f"assets/app-{A}.css": "new",
        f"assets/gone-{A}.js": "gone",
        f"assets/app-{B}.css.gz": "gz",
        f"x-{A}": "other's",
    }
    inode = (route / "static/assets" / f"gone-{A}.js").stat().st_ino
    assert inode == (old / f"lib/shop-0.1.0/priv/static/assets/gone-{A}.js").stat().st_ino
    assert not publish(route, new, old)


def test_only_digested_ordinary_files(tmp_path: Path) -> None:
    tree = release(
        tmp_path, 1,
        {"robots.txt": "", "app.css": "", f"app-{A.upper()}.css": "", f"app-{A[1:]}.css": "",
         f"app{A}.css": "", f"app-{A}.css.map.gz": "", f".hidden-{A}.css": "",
         f".git/x-{A}.css": "", f"app-{A}.css.br": "", f"app-{A}.css\n": "",
         f"yes-{A}.css": "yes"},
    )  # fmt: skip
    secret = tmp_path / f"secret-{A}"
    secret.write_text("secret")
    where = tree / "lib/shop-0.1.0/priv/static"
    (where / f"link-{A}.css").symlink_to(secret)
    (where / "away").symlink_to(tmp_path)
    os.mkfifo(where / f"fifo-{A}.css")
    (where / f"directory-{A}.css").mkdir()
    publish(tmp_path / "route", tree)
    assert served(tmp_path / "route") == {f"yes-{A}.css": "yes"}


def test_it_is_switched_as_a_whole_and_nothing_is_left(tmp_path: Path) -> None:
    route = tmp_path / "route"
    trees = [release(tmp_path, n, {f"app-{n:032x}.css": str(n)}) for n in (1, 2, 3)]
    for chosen in (trees[:1], trees[1::-1], trees[::-1], trees[1:2]):
        assert publish(route, *chosen)
        assert sorted(served(route).values()) == sorted(tree.name[1:] for tree in chosen)
        assert len(list(route.iterdir())) == 2
    assert publish(route)
    assert list(route.iterdir()) == []
    assert not publish(route)


def test_what_a_killed_command_left_is_in_nobodys_way(tmp_path: Path) -> None:
    route = tmp_path / "route"
    tree = release(tmp_path, 1, {f"app-{A}.css": "1"})
    (route / ".static.new/x").mkdir(parents=True)
    (route / "static-v1/half").mkdir(parents=True)
    (route / ".static.link").symlink_to("nowhere")
    (route / "1").touch()
    assert publish(route, tree)
    assert served(route) == {f"app-{A}.css": "1"}
    assert sorted(e.name for e in route.iterdir()) == ["1", "static", "static-v1"]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    route = tmp_path / "route"
    trees = [release(tmp_path, n, {f"app-{n:032x}.css": str(n)}) for n in (1, 2)]
    publish(route, trees[0])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space"):
        publish(route, *trees)
    assert list(served(route).values()) == ["1"]
