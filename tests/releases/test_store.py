"""Release trees on disk: whole or not there, read-only, and sharing what is equal."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatling.errors import DiskFull
from gatling.platform.embedded.home import EmbeddedPaths
from gatling.releases import store
from tests.scale import scaled

Files = dict[str, bytes | Path]
BASE: Files = {
    "bin/shop": b"#!/bin/sh\n",
    "lib/a.beam": b"a" * 9000,
    "lib/b.beam": b"b" * 300_000,
    "lib/empty": b"",
    "releases/start_erl.data": b"15.0 0.1.0",
    "link": Path("lib/a.beam"),
    "dangling": Path("../../nowhere"),
    "linked_dir": Path("lib"),
}


@pytest.fixture
def paths(tmp_path: Path) -> EmbeddedPaths:
    made = EmbeddedPaths(tmp_path, "shop")
    made.build.mkdir(parents=True)
    return made


def build(
    paths: EmbeddedPaths, changes: Files | None = None, without: tuple[str, ...] = ()
) -> Path:
    """A tree in the staging directory, as mix leaves it; what is in bin/ is executable."""
    for name, content in (BASE | (changes or {})).items():
        path = paths.staging / name
        if name in without:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
            path.chmod(0o755 if name.startswith("bin/") else 0o644)
    return paths.staging


def names(paths: EmbeddedPaths) -> list[str]:
    return sorted(entry.name for entry in paths.releases.iterdir())


def inode(paths: EmbeddedPaths, number: int, name: str) -> int:
    return (paths.release(number) / name).lstat().st_ino


def content(tree: Path) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for path in tree.rglob("*"):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def expected(changes: Files | None = None) -> dict[str, bytes | str]:
    merged = BASE | (changes or {})
    return {name: str(c) if isinstance(c, Path) else c for name, c in merged.items()}


def check_read_only(tree: Path) -> None:
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0, path
            executable = bool(path.stat().st_mode & 0o111)
            assert executable == ("bin" in path.relative_to(tree).parts[:1]), path


def test_the_first_tree_is_moved_there_whole_and_read_only(paths: EmbeddedPaths) -> None:
    tree = build(paths)
    own = store.store(paths, tree, 1, None)
    assert not tree.exists()
    assert names(paths) == ["v1"]
    assert content(paths.release(1)) == expected()
    check_read_only(paths.release(1))
    assert own >= 300_000


def test_equal_files_are_shared_and_others_are_not(paths: EmbeddedPaths) -> None:
    first = store.store(paths, build(paths), 1, None)
    changes: Files = {"lib/a.beam": b"A" + b"a" * 8999, "lib/new": b"new"}
    second = store.store(paths, build(paths, changes), 2, 1)
    assert content(paths.release(2)) == expected(changes)
    assert content(paths.release(1)) == expected()
    for name in ("bin/shop", "lib/b.beam", "lib/empty", "releases/start_erl.data"):
        assert inode(paths, 2, name) == inode(paths, 1, name), name
    for name in ("lib/a.beam", "link", "dangling"):
        assert inode(paths, 2, name) != inode(paths, 1, name), name
    check_read_only(paths.release(2))
    assert 0 < second < first / 5


@pytest.mark.parametrize("where", [0, 262_143, 262_144, 299_999])
def test_one_byte_anywhere_makes_a_file_another_one(paths: EmbeddedPaths, where: int) -> None:
    store.store(paths, build(paths), 1, None)
    changed = bytearray(b"b" * 300_000)
    changed[where] = ord("x")
    store.store(paths, build(paths, {"lib/b.beam": bytes(changed)}), 2, 1)
    assert (paths.release(2) / "lib/b.beam").read_bytes() == changed
    assert (paths.release(1) / "lib/b.beam").read_bytes() == b"b" * 300_000


def test_a_file_that_became_executable_is_not_shared(paths: EmbeddedPaths) -> None:
    store.store(paths, build(paths), 1, None)
    tree = build(paths)
    (tree / "lib/a.beam").chmod(0o755)
    (tree / "bin/shop").chmod(0o644)
    store.store(paths, tree, 2, 1)
    modes = [
        stat.S_IMODE((paths.release(n) / name).stat().st_mode)
        for name in ("lib/a.beam", "bin/shop") for n in (1, 2)
    ]  # fmt: skip
    assert modes == [0o444, 0o555, 0o555, 0o444]


def test_what_is_of_another_kind_now(paths: EmbeddedPaths) -> None:
    before: Files = {"bin/shop": b"shop", "bin/link": Path("shop")}
    store.store(paths, build(paths, before), 1, None)
    changes: Files = {
        "lib/a.beam": Path("b.beam"),  # a file before
        "link": b"a" * 9000,  # a link before, whose target has the same content
        "bin/link": b"shop",  # as long as the name that the link before pointed to
    }
    store.store(paths, build(paths, changes), 2, 1)
    assert content(paths.release(2)) == expected(changes)
    assert inode(paths, 2, "link") != inode(paths, 1, "lib/a.beam")
    assert (paths.release(2) / "bin/link").is_symlink() is False


def test_a_release_before_whose_tree_is_gone(paths: EmbeddedPaths) -> None:
    store.store(paths, build(paths), 2, 1)
    assert content(paths.release(2)) == expected()
    check_read_only(paths.release(2))


def test_a_file_that_can_have_no_more_links(
    paths: EmbeddedPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.store(paths, build(paths), 1, None)
    link = os.link

    def full(source: str, target: str) -> None:
        if source.endswith("b.beam"):
            raise OSError(errno.EMLINK, "Too many links", source)
        link(source, target)

    monkeypatch.setattr(os, "link", full)
    second = store.store(paths, build(paths), 2, 1)
    assert content(paths.release(2)) == expected()
    check_read_only(paths.release(2))
    assert inode(paths, 2, "lib/b.beam") != inode(paths, 1, "lib/b.beam")
    assert inode(paths, 2, "lib/a.beam") == inode(paths, 1, "lib/a.beam")
    assert 300_000 <= second < first


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_for_a_tree_leaves_the_store_as_it_was(
    paths: EmbeddedPaths, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store.store(paths, build(paths), 1, None)
    link = os.link

    def full(source: str, target: str) -> None:
        if "b.beam" in source:
            raise OSError(number, os.strerror(number), target)
        link(source, target)

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(DiskFull, match="no space is left"):
        store.store(paths, build(paths), 2, 1)
    assert names(paths) == ["v1"]
    assert content(paths.release(1)) == expected()


def test_no_space_for_a_copy_leaves_the_store_as_it_was(
    paths: EmbeddedPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.store(paths, build(paths), 1, None)
    mkdir = os.mkdir

    def full(path: str, mode: int = 0o777) -> None:
        if str(path).endswith("v2.partial/lib"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(DiskFull, match="no space is left"):
        store.copy(paths, 1, 2)
    assert names(paths) == ["v1"]
    assert content(paths.release(1)) == expected()


def test_an_interruption_leaves_the_store_as_it_was(
    paths: EmbeddedPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.store(paths, build(paths), 1, None)

    def interrupted(_source: str, _target: str) -> None:
        assert "v2" not in names(paths)  # never seen half made
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.store(paths, build(paths), 2, 1)
    assert names(paths) == ["v1"]


def test_a_number_that_is_taken_is_not_overwritten(paths: EmbeddedPaths) -> None:
    store.store(paths, build(paths), 1, None)
    with pytest.raises(OSError, match="not empty"):
        store.store(paths, build(paths, {"lib/a.beam": b"other"}), 1, None)
    assert content(paths.release(1)) == expected()
    assert names(paths) == ["v1"]


def test_what_a_killed_deployment_left_is_in_nobodys_way(paths: EmbeddedPaths) -> None:
    left = paths.releases / "v1.partial/lib"
    left.mkdir(parents=True)
    (left / "junk").write_text("half")
    store.store(paths, build(paths), 1, None)
    assert content(paths.release(1)) == expected()
    left = paths.releases / "v2.partial/lib"
    left.mkdir(parents=True)
    (left / "junk").write_text("half")
    store.copy(paths, 1, 2)
    assert content(paths.release(2)) == expected()
    assert names(paths) == ["v1", "v2"]


def test_a_copy_is_links_only(paths: EmbeddedPaths) -> None:
    store.store(paths, build(paths), 1, None)
    store.copy(paths, 1, 2)
    assert content(paths.release(2)) == expected()
    for path in paths.release(1).rglob("*"):
        name = str(path.relative_to(paths.release(1)))
        if path.is_file() and not path.is_symlink():
            assert inode(paths, 2, name) == inode(paths, 1, name), name
    check_read_only(paths.release(2))


def test_a_removed_tree_takes_nothing_from_the_others(paths: EmbeddedPaths) -> None:
    store.store(paths, build(paths), 1, None)
    store.copy(paths, 1, 2)
    store.remove(paths, 1)
    assert names(paths) == ["v2"]
    assert content(paths.release(2)) == expected()
    store.remove(paths, 1)  # again: nothing happens
    # half removed by a command that was killed
    paths.release(2).rename(paths.releases / "v2.partial")
    store.remove(paths, 2)
    assert names(paths) == []


def test_what_stands_for_no_release_is_removed(paths: EmbeddedPaths) -> None:
    assert store.remove_unknown(paths, [1]) == []
    for name in ("v1", "v2", "v10", "v2.partial", "v30.partial", "incoming", "own-notes", "v1.bak"):
        (paths.releases / name / "lib").mkdir(parents=True)
    assert store.remove_unknown(paths, [1, 10]) == ["v2", "v2.partial", "v30.partial"]
    assert names(paths) == ["incoming", "own-notes", "v1", "v1.bak", "v10"]
    store.remove_incoming(paths)
    assert names(paths) == ["own-notes", "v1", "v1.bak", "v10"]


@settings(max_examples=scaled(30, 100))
@given(st.sets(st.integers(1, 40)), st.none() | st.integers(1, 40), st.integers(1, 12))
def test_the_live_one_and_the_newest_stay(kept: set[int], live: int | None, keep: int) -> None:
    doomed = store.to_remove(kept, live, keep)
    left = kept - set(doomed)
    assert set(doomed) <= kept
    assert len(doomed) == len(set(doomed))
    assert live not in doomed
    others = left - {live}
    # the newest of them, as many as may be kept, and never fewer than there are
    assert all(other > gone for other in others for gone in doomed)
    assert len(others) == min(len(kept - {live}), keep)


def test_files_are_shared_with_the_live_release_and_otherwise_with_the_newest(
    paths: EmbeddedPaths,
) -> None:
    store.store(paths, build(paths), 1, None)
    # stored without sharing, and with a file that the live release does not have
    store.store(paths, build(paths, {"lib/new.beam": b"n" * 9000}), 2, None)
    own = store.store(paths, build(paths, {"lib/new.beam": b"n" * 9000}), 3, 1, also=2)
    for name in ("lib/a.beam", "lib/b.beam", "bin/shop"):
        assert inode(paths, 3, name) == inode(paths, 1, name)
    assert inode(paths, 3, "lib/new.beam") == inode(paths, 2, "lib/new.beam")
    assert own == 0


def test_files_that_are_shared_already_are_left_as_they_are(paths: EmbeddedPaths) -> None:
    """A build keeps files of its own; the release after this one then has them as well."""
    store.store(paths, build(paths), 1, None)
    tree = build(paths)
    kept = paths.build / "kept.beam"
    kept.hardlink_to(tree / "lib/a.beam")
    own = store.store(paths, tree, 2, 1)
    assert inode(paths, 2, "lib/a.beam") == kept.stat().st_ino != inode(paths, 1, "lib/a.beam")
    assert inode(paths, 2, "lib/b.beam") == inode(paths, 1, "lib/b.beam")
    assert not (paths.release(2) / "lib/a.beam").stat().st_mode & 0o222
    assert own == 0


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EIO, OSError)])
def test_a_tree_that_does_not_reach_the_disk_is_not_stored(
    paths: EmbeddedPaths, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    class Libc:
        def __init__(self, *_: object, **__: object) -> None: ...

        def syncfs(self, _fd: int) -> int:
            ctypes.set_errno(number)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", Libc)
    with pytest.raises(kind):
        store.store(paths, build(paths), 1, None)
    assert names(paths) == []


def test_a_tree_that_a_process_uses_is_not_free(paths: EmbeddedPaths) -> None:
    store.store(paths, build(paths), 1, None)
    # as `gatling run` does before it becomes the command; its children use the tree as well
    script = (
        "import os, sys; from pathlib import Path;"
        " from gatling.platform.embedded.home import EmbeddedPaths;"
        " from gatling.releases import store;"
        " store.use(EmbeddedPaths(Path(sys.argv[1]), 'shop'), 1);"
        " os.execv('/bin/sh', ['sh', '-c', 'echo ready; read -r end; exit 0'])"
    )
    user = subprocess.Popen(
        [sys.executable, "-I", "-c", script, str(paths.home)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert user.stdout is not None
    assert user.stdout.readline() == b"ready\n"
    with store.unused(paths, 1) as free:
        assert not free
    user.communicate(b"end\n", timeout=60)
    with store.unused(paths, 1) as free:
        assert free
    with store.unused(paths, 2) as free:
        assert free


def test_what_an_app_wrote_into_its_release_is_seen(paths: EmbeddedPaths) -> None:
    store.store(paths, build(paths), 1, None)
    tree = paths.release(1)
    assert store.written(tree) == []
    for name in ("releases/0.1.0/sys.config", "tmp/pid", "var/log", "lib/shop-1/priv/u/a.png"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    assert store.written(tree) == ["lib/shop-1/priv/u/a.png"]
    for n in range(5):
        (tree / f"upload-{n}").write_text("x")
    assert len(store.written(tree)) == 3
    assert store.written(paths.release(7)) == []
