"""Whether a release runs on a base image: what it needs, and what the layers have."""

from __future__ import annotations

import io
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from gatling.errors import InvalidInput
from gatling.images import debian, fitting, image
from gatling.images.fitting import Files, Needs
from gatling.images.layout import LAYER, Layout
from tests.images.trees import release

if TYPE_CHECKING:
    from pathlib import Path

ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
NEEDS = Needs({"/lib64/ld.so.2"}, {"libc.so.6": {"GLIBC_2.4", "GLIBC_2.34"}}, {"libc.so.6": "beam"})


def archive(*items: tuple[str, str | bytes]) -> io.BytesIO:
    """A layer: files with their content, and links, whose content begins with `->`."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as layer:
        for name, content in items:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                layer.addfile(member)
            else:
                member.size = len(content)
                layer.addfile(member, io.BytesIO(content))
    made.seek(0)
    return made


def files(*layers: io.BytesIO) -> Files:
    found = Files({"GLIBC_2.4", "GLIBC_2.34"})
    for layer in layers:
        found.add(layer)
    return found


PROGRAMS: list[tuple[str, str | bytes]] = [
    (f"usr/bin/{name}", b"#!") for name in ("sh", *fitting.PROGRAMS)
]
LIBRARY = ("usr/lib/x/libc.so.6", b"\0GLIBC_2.4\0\0GLIBC_2.34\0")
SYSTEM: list[tuple[str, str | bytes]] = [
    *PROGRAMS, LIBRARY, ("bin", "usr/bin"), ("./lib64", "/usr/lib64"),
    ("usr/lib64/ld.so.2", "../lib/x/ld-2.so"), ("usr/lib/x/ld-2.so", b""),
]  # fmt: skip


def test_an_image_with_everything_fits() -> None:
    assert fitting.missing(NEEDS, files(archive(*SYSTEM)), []) == []


def test_a_release_of_this_machine_fits_on_its_own_distribution(tmp_path: Path) -> None:
    tree = release(tmp_path)
    shutil.copy("/bin/sh", tree / "erts-15.2/bin/program")
    layout = Layout(tmp_path / "images")
    base = image.debian_base(layout, tree)
    assert image.check_fits(layout, base, tree) == ()
    assert {"libc.so.6"} == fitting.needs(tree).libraries.keys()
    assert debian.PROGRAMS  # those of this base have all that is looked for


def test_what_an_image_lacks_is_named() -> None:
    other = [one for one in SYSTEM if "ld" not in one[0]]
    (what,) = fitting.missing(NEEDS, files(archive(*other)), [])
    assert what.startswith("the dynamic linker /lib64/ld.so.2, so its C library is another one")
    old = archive(("usr/lib/x/libc.so.6", b"\0GLIBC_2.4\0\0GLIBC_2.340\0"))
    found = fitting.missing(NEEDS, files(archive(*SYSTEM), old), [])
    assert found == ["GLIBC_2.34 in its libc.so.6, which is older than the one here"]
    removed = archive(("usr/lib/x/.wh.libc.so.6", b""), ("usr/bin/.wh.sh", b""))
    assert fitting.missing(NEEDS, files(archive(*SYSTEM), removed), []) == [
        "the library libc.so.6, which beam needs", "the shell /bin/sh",
    ]  # fmt: skip
    opaque = archive(("usr/bin/.wh..wh..opq", b""), ("usr/bin/sh", b"#!"))
    found = fitting.missing(NEEDS, files(archive(*SYSTEM), opaque), [])
    assert found == [f"the program {name}" for name in fitting.PROGRAMS]
    found = fitting.missing(NEEDS, files(archive(*SYSTEM)), ["PATH=/opt"])
    assert found[0] == "the program basename"


def test_links_that_lead_nowhere_or_in_circles_are_no_files() -> None:
    found = files(archive(("a", "b"), ("b", "a"), ("c", "../../../d"), ("d", b""), ("e", "/f/g")))
    assert [found.find(name) for name in ("a", "c", "d", "e", "../d", "")] == [
        None, "d", "d", None, None, None,
    ]  # fmt: skip


def test_what_cannot_be_read_is_not_checked(tmp_path: Path) -> None:
    tree = release(tmp_path)
    broken = tmp_path / "layer"
    for content, media in ((b"no tar" * 200, LAYER), (b"", ZSTD), (b"\x1f\x8b", LAYER)):
        broken.write_bytes(content)
        (note,) = fitting.check(tree, [(broken, media)], [], "r.example.com/base")
        assert note.startswith(
            "The release was not compared with the libraries of r.example.com/base:"
        )


def test_an_image_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    tree = release(tmp_path)
    shutil.copy("/bin/sh", tree / "erts-15.2/bin/program")
    layout = Layout(tmp_path / "images")
    empty = layout.layer([])
    base = image.Base((empty,), (), origin="r.example.com/base", digest="sha256:0")
    with pytest.raises(InvalidInput, match="cannot run on the image r"):
        image.check_fits(layout, base, tree)
