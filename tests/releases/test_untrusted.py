"""Taking over trees and files that somebody else has made, and who may mean harm."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import socket
import stat
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling.errors import BuildFailed, DiskFull
from gatling.releases import safe_copy
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = b"nobody but gatling may read this"
NAMES = [b"a", b"b", b"c", b"new\nline", b"\xff\xfe", b"-rf", b"*", b" ", b"..a", b"\xe2\x80\xae"]
PARTS = st.sampled_from([b"a", b"b", b"c", b"..", b".", b"", b"\xff\xfe", b"..a"])
LINKS = (
    st.lists(PARTS, min_size=1, max_size=5).map(b"/".join)
    | st.sampled_from([b"/etc/passwd", b"/", b"..", b"../../../secret", b"a/../../secret", b"//a"])
).filter(bool)
ENTRY = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=20), st.sampled_from(
        [0o644, 0o755, 0o600, 0o4755, 0o2755, 0o6777, 0o1777, 0o444])),
    st.tuples(st.just("link"), LINKS),
    st.tuples(st.just("link"), LINKS),
    st.tuples(st.just("hard")),
    st.tuples(st.sampled_from(["fifo", "socket"])),
)  # fmt: skip
TREE = st.recursive(
    st.dictionaries(st.sampled_from(NAMES), ENTRY, max_size=4),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), ENTRY | inner, max_size=4),
    max_leaves=12,
)
Tree = dict[bytes, object]


@pytest.fixture
def place() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def make(tree: Tree, directory: bytes, first: list[bytes]) -> None:
    os.mkdir(directory)  # noqa: PTH102
    for name, entry in tree.items():
        path = directory + b"/" + name
        match entry:
            case dict():
                make(entry, path, first)
            case ("file", bytes(content), int(mode)):
                Path(os.fsdecode(path)).write_bytes(content)
                os.chmod(path, mode)  # noqa: PTH101
                first.append(path)
            case ("link", bytes(to)):
                os.symlink(to, path)  # noqa: PTH211
            case ("hard",):
                if first:
                    os.link(first[0], path)
            case ("fifo",):
                os.mkfifo(path)
            case _:
                with socket.socket(socket.AF_UNIX) as made:
                    made.bind(path)


def entries(tree: Path) -> dict[bytes, os.stat_result]:
    found = {}
    for directory, below, files in os.walk(os.fsencode(tree)):
        for name in (*below, *files):
            path = os.path.join(directory, name)  # noqa: PTH118
            found[os.path.relpath(path, os.fsencode(tree))] = os.lstat(path)
    return found


def goes_round(path: bytes) -> bool:
    """Whether a link leads to itself: nowhere, but realpath makes something up then."""
    try:
        os.stat(path)  # noqa: PTH116 (bytes)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def assert_safe(copy: Path) -> None:
    root = os.path.realpath(os.fsencode(copy))
    for path, info in entries(copy).items():
        whole = root + b"/" + path
        kind = stat.S_IFMT(info.st_mode)
        assert kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK), path
        if kind == stat.S_IFREG:
            assert stat.S_IMODE(info.st_mode) in (0o444, 0o555), path
        if kind == stat.S_IFLNK and not goes_round(whole):
            to = os.path.realpath(whole)
            assert to == root or to.startswith(root + b"/"), path


@settings(max_examples=scaled(100, 500))
@given(TREE)
@example({b"a": {b"l": ("link", b"../b/c")}, b"b": ("link", b"a")})
@example({b"..a": ("link", b"..a//a")})
@example({b"a": ("link", b"b/.."), b"b": {}})
@example({b"a": {b"b": {b"c": ("link", b"../..")}}, b"b": ("link", b"a/b/c")})
def test_a_copy_leads_nowhere_and_is_the_same(tree: Tree) -> None:
    with tempfile.TemporaryDirectory(prefix="gt-", dir="/tmp") as made:
        place = Path(made)
        (place / "secret").write_bytes(SECRET)
        source, copy = place / "in" / "release", place / "out" / "v1"
        source.parent.mkdir()
        copy.parent.mkdir()
        make(tree, os.fsencode(source), [])
        before = entries(source)
        try:
            safe_copy.copy(source, copy, None)
        except BuildFailed:
            assert not copy.exists()
            assert any(stat.S_ISLNK(i.st_mode) or not (stat.S_ISDIR(i.st_mode)
                       or stat.S_ISREG(i.st_mode)) for i in before.values())  # fmt: skip
            return
        assert_safe(copy)
        after = entries(copy)
        assert after.keys() == before.keys()
        for path, info in before.items():
            theirs, ours = (os.fsencode(base) + b"/" + path for base in (source, copy))
            assert stat.S_IFMT(after[path].st_mode) == stat.S_IFMT(info.st_mode)
            if stat.S_ISREG(info.st_mode):
                with open(theirs, "rb") as a, open(ours, "rb") as b:  # noqa: PTH123
                    assert a.read() == b.read()
                assert bool(after[path].st_mode & 0o111) == bool(info.st_mode & 0o111)
                assert after[path].st_ino != info.st_ino
            elif stat.S_ISLNK(info.st_mode):
                assert Path(os.fsdecode(theirs)).readlink() == Path(os.fsdecode(ours)).readlink()
        safe_copy.copy(source, place / "out" / "v2", copy)  # again, beside one that it may share
        assert_safe(place / "out" / "v2")
        for path, info in entries(place / "out" / "v2").items():
            if stat.S_ISREG(info.st_mode):
                assert info.st_ino == after[path].st_ino


def test_deep_nesting_is_refused(place: Path) -> None:
    deepest = place / "release"
    for _ in range(safe_copy.MAX_DEPTH + 2):
        deepest.mkdir()
        deepest /= "d"
    with pytest.raises(BuildFailed, match="directories in each other"):
        safe_copy.copy(place / "release", place / "copy", None)
    assert not (place / "copy").exists()


def test_the_tree_itself_is_no_link(place: Path) -> None:
    (place / "private").mkdir()
    (place / "private" / "secret").write_bytes(SECRET)
    (place / "release").symlink_to("private")
    with pytest.raises(BuildFailed):
        safe_copy.copy(place / "release", place / "copy", None)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_told(place: Path) -> None:
    (place / "release").mkdir()
    (place / "release" / "file").touch(0o000)
    with pytest.raises(BuildFailed, match=r"file: Permission denied"):
        safe_copy.copy(place / "release", place / "copy", None)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_who_swaps_while_it_is_copied_gains_nothing(place: Path, what: str) -> None:
    secret = place / "private"
    secret.mkdir()
    (secret / "x").write_bytes(SECRET)
    source = place / "release"
    (source / "d").mkdir(parents=True)
    (source / "d" / "x").write_bytes(b"harmless")
    target, to = (source / "d" / "x", secret / "x") if what == "file" else (source / "d", secret)
    (place / "link").symlink_to(to)
    done = threading.Event()

    def swap() -> None:
        """The two names change places, in one step, again and again."""
        while not done.is_set():
            target.rename(place / "kept")
            (place / "link").rename(target)
            target.rename(place / "link")
            (place / "kept").rename(target)

    swapping = threading.Thread(target=swap)
    swapping.start()
    outcomes = set()
    try:
        for number in itertools.count():
            copy = place / f"copy{number % 2}"
            try:
                safe_copy.copy(source, copy, place / f"copy{(number + 1) % 2}")
            except BuildFailed:
                outcomes.add("refused")
            else:
                outcomes.add("copied")
                for file in copy.rglob("*"):
                    assert not file.is_symlink()
                    assert file.is_dir() or file.read_bytes() == b"harmless"
            if number >= 300 and (len(outcomes) == 2 or number >= 3000):
                break
    finally:
        done.set()
        swapping.join()


def test_a_file_is_read_without_a_link_on_the_way(place: Path) -> None:
    private = place / "private"
    (private / "x").mkdir(parents=True)
    (private / "x" / "file").write_bytes(SECRET)
    base = place / "app"
    (base / "build" / "x").mkdir(parents=True)
    (base / "build" / "x" / "file").write_bytes(b"content")
    file = base / "build" / "x" / "file"
    assert safe_copy.read(file, base) == b"content"
    assert safe_copy.read(file, base / "build") == b"content"
    file.unlink()
    with pytest.raises(OSError, match="No such file"):
        safe_copy.read(file, base)
    file.symlink_to(private / "x" / "file")
    with pytest.raises(OSError, match="symbolic link"):
        safe_copy.read(file, base)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="not an ordinary file"):
        safe_copy.read(file, base)  # and does not wait
    shutil.rmtree(base / "build" / "x")
    (base / "build" / "x").symlink_to(private / "x")
    with pytest.raises(OSError, match="directory"):
        safe_copy.read(file, base)
    shutil.rmtree(base / "build")
    (base / "build").symlink_to(private)
    with pytest.raises(OSError, match="directory"):
        safe_copy.read(file, base)


def test_holes_stay_holes_however_large_they_are(place: Path) -> None:
    source = place / "sparse"
    source.mkdir()
    with (source / "hole").open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 40)
        file.write(b"middle")
        file.truncate(2 << 40)
    for name, like in (("first", None), ("second", place / "first")):
        safe_copy.copy(source, place / name, like)
        copied = place / name / "hole"
        assert copied.stat().st_size == 2 << 40
        assert copied.stat().st_blocks * 512 < 1 << 20
        with copied.open("rb") as file:
            assert file.read(6) == b"begin\0"
            file.seek(1 << 40)
            assert file.read(7) == b"middle\0"
    assert (place / "first/hole").samefile(place / "second/hole")


def test_too_many_files_are_refused_and_nothing_is_left(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_copy, "MAX_ENTRIES", 10)
    source = place / "many"
    source.mkdir()
    for number in range(11):
        (source / str(number)).touch()
    with pytest.raises(BuildFailed, match="more than 10 files"):
        safe_copy.copy(source, place / "copy", None)
    assert not (place / "copy").exists()


@pytest.mark.parametrize("limit", ["RESERVE_BYTES", "RESERVE_FILES"])
def test_a_disk_is_not_filled_to_the_end(
    place: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    source = place / "tree"
    source.mkdir()
    (source / "file").touch()
    monkeypatch.setattr(safe_copy, limit, 1 << 60)
    with pytest.raises(DiskFull, match=r"almost no (space|inode) is left"):
        safe_copy.copy(source, place / "copy", None)
    assert not (place / "copy").exists()
