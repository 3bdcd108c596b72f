"""Release trees as layers: which file is in which, the same bytes each time, and hostile trees."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import zlib
from typing import TYPE_CHECKING

import pytest

from gatling.errors import BuildFailed
from gatling.images import archive, tree
from tests.images.trees import release

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def names(items: list[archive.Item]) -> set[str]:
    return {item.below for item in items if item.kind == tarfile.REGTYPE}


def unpacked(items: list[archive.Item]) -> tarfile.TarFile:
    packed = bytearray()
    archive.compress(archive.with_parents(items), packed.extend)
    data = zlib.decompress(packed, 31)
    assert len(data) % tarfile.RECORDSIZE == 0
    return tarfile.open(fileobj=io.BytesIO(data))


def test_what_changes_seldom_is_in_layers_of_its_own(tmp_path: Path) -> None:
    found = tree.layers(release(tmp_path), {"shop"})
    assert list(found) == ["runtime", "dependencies", "assets", "app"]
    assert names(found["runtime"]) == {
        "erts-15.2/bin/erlexec", "lib/kernel-10.2/ebin/kernel.beam",
        "lib/elixir-1.18.3/ebin/Elixir.Enum.beam",
    }  # fmt: skip
    assert names(found["dependencies"]) == {"lib/plug-1.16.1/ebin/Elixir.Plug.beam"}
    assert names(found["assets"]) == {"lib/shop-0.1.0/priv/static/app.js"}
    assert names(found["app"]) == {
        "lib/shop-0.1.0/ebin/Elixir.Shop.beam", "releases/0.1.0/shop.rel", "bin/shop",
    }  # fmt: skip


def test_a_cookie_that_mix_made_up_is_in_no_image(tmp_path: Path) -> None:
    found = tree.layers(release(tmp_path), {"shop"})
    assert not any("COOKIE" in item.name for items in found.values() for item in items)


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whatever its times, its owners, its modes and the order of its directories."""
    one = release(tmp_path / "a")
    two = tmp_path / "b" / "elsewhere"
    two.mkdir(parents=True)
    files = sorted((path for path in one.rglob("*") if not path.is_dir()), reverse=True)
    for file in files:  # in another order
        copy = two / file.relative_to(one)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.is_symlink():
            copy.symlink_to(file.readlink())
            continue
        copy.write_bytes(file.read_bytes())
        copy.chmod(0o700 if file.stat().st_mode & 0o100 else 0o600)
        os.utime(copy, (1, 1))
        if os.geteuid() == 0:
            os.chown(copy, 12, 34)
    (two / "lib").chmod(0o700)

    def digests(place: Path) -> list[tuple[str, str, int]]:
        return [
            archive.compress(archive.with_parents(items), lambda _: None)
            for items in tree.layers(place, {"shop"}).values()
        ]

    assert digests(one) == digests(two)
    (two / "bin/shop").chmod(0o644)
    assert digests(one) != digests(two)


def test_an_archive_has_what_the_tree_has(tmp_path: Path) -> None:
    place = release(tmp_path)
    long = "d" * 90 + "/" + "ü" * 60
    (place / "bin" / long).parent.mkdir()
    (place / "bin" / long).write_text("long")
    (place / "bin" / os.fsdecode(b"\xff")).write_text("no UTF-8")
    with unpacked(tree.layers(place, {"shop"})["app"]) as opened:
        found = {member.name: member for member in opened}
        assert [*found] == sorted(found, key=lambda name: name.split("/"))
        for path in ("bin/shop", f"bin/{long}", os.fsdecode(b"bin/\xff")):
            member = found[f"opt/release/{path}"]
            content = opened.extractfile(member)
            assert content is not None
            assert content.read() == (place / path).read_bytes()
        for member in found.values():
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert member.mtime == 0
            assert member.isdir() or member.issym() or member.mode in {0o444, 0o555}
        assert found["opt/release/bin/shop"].mode == 0o555
        assert found["opt"].isdir()
        assert found["opt"].mode == 0o755


def test_setuid_and_capabilities_are_left_out(tmp_path: Path) -> None:
    place = release(tmp_path)
    (place / "bin/shop").chmod(0o6755)
    if os.geteuid() == 0:  # cap_net_raw
        value = bytes.fromhex("0100000200200000000000000000000000000000")
        os.setxattr(place / "bin/shop", "security.capability", value)
    with unpacked(tree.layers(place, {"shop"})["app"]) as opened:
        member = opened.getmember("opt/release/bin/shop")
        assert member.mode == 0o555
        assert member.pax_headers == {}


def outside(place: Path) -> None:
    (place / "lib/passwd").symlink_to("/etc/passwd")


def upwards(place: Path) -> None:
    (place / "lib/up").symlink_to("../../secret")


def through(place: Path) -> None:
    (place / "lib/through").symlink_to("shop-0.1.0/../../../secret")


def fifo(place: Path) -> None:
    os.mkfifo(place / "lib/fifo")


def a_socket(place: Path) -> None:
    here = os.open(place, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/s")
    os.close(here)


def whiteout(place: Path) -> None:
    (place / "bin/.wh.shop").write_text("")


def sparse(place: Path) -> None:
    with (place / "lib/huge").open("wb") as file:
        file.truncate(1 << 40)


def deep(place: Path) -> None:
    for _ in range(110):
        place /= "d"
        place.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (outside, r"leads out of it: lib/passwd → /etc/passwd"),
        (upwards, r"leads out of it: lib/up → "),
        (through, r"leads out of it: lib/through → "),
        (fifo, r"lib/fifo is neither a file nor a directory"),
        (a_socket, r"s is neither a file nor a directory"),
        (whiteout, r"bin/\.wh\.shop cannot be in an image"),
        (sparse, r"more than 4 GB .* lib/huge has 1,048,576 MB"),
        (deep, r"more than 100 directories in each other"),
    ],
)
def test_a_hostile_tree_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    place = release(tmp_path)
    spoil(place)
    with pytest.raises(BuildFailed, match=said):
        tree.layers(place, {"shop"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_refused(tmp_path: Path) -> None:
    place = release(tmp_path)
    os.mknod(place / "lib/null", 0o20666, os.makedev(1, 3))
    with pytest.raises(BuildFailed, match="lib/null is neither a file nor a directory"):
        tree.layers(place, {"shop"})


@pytest.mark.parametrize("what", ["link", "directory", "grows", "shrinks", "gone"])
def test_a_file_that_changes_after_it_was_listed_leads_nowhere(tmp_path: Path, what: str) -> None:
    place = release(tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    file = place / "lib/shop-0.1.0/ebin/Elixir.Shop.beam"
    (secret / file.name).write_bytes(b"s" * file.stat().st_size)
    items = tree.layers(place, {"shop"})["app"]
    if what == "link":
        file.unlink()
        file.symlink_to(secret / file.name)
    elif what == "directory":
        file.parent.rename(tmp_path / "away")
        file.parent.symlink_to(secret)
    elif what == "grows":
        file.write_bytes(file.read_bytes() + b"!")
    elif what == "shrinks":
        file.write_bytes(b"!")
    else:
        file.unlink()
    with pytest.raises(BuildFailed, match=r"Elixir\.Shop\.beam"):
        archive.digest(archive.with_parents(items))
