"""The base layer of this machine's packages: the libraries of a release, and hostile ones."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatling.errors import MissingProgram
from gatling.images import archive, debian, elf
from tests.images.trees import program, release

pytestmark = pytest.mark.skipif(not shutil.which("dpkg"), reason="a base of Debian packages")


def linked(file: Path) -> elf.Linked | None:
    opened = os.open(file, os.O_RDONLY)
    try:
        return elf.linked(opened)
    finally:
        os.close(opened)


@pytest.mark.skipif(not shutil.which("cc"), reason="compiles a program")
def test_a_release_finds_all_libraries_in_the_base(tmp_path: Path) -> None:
    """Its programs run there, with nothing else of this machine."""
    place = release(tmp_path)
    program(place / "lib/shop-0.1.0/priv/port", "-Wl,--no-as-needed", "-l:libstdc++.so.6")
    made = debian.base(place)
    assert made.missing == ()
    assert {"libc6", "libstdc++6", "dash", "coreutils", "sed"} <= {
        one.split()[0] for one in made.packages
    }
    root = tmp_path / "root"
    root.mkdir()
    packed = tmp_path / "base.tar"
    packed.write_bytes(b"".join(archive.chunks(made.items)))
    with tarfile.open(packed) as opened:
        names = opened.getnames()
        opened.extractall(root, filter="tar")
    assert not [name for name in names if "/man/" in name or name.startswith("usr/share/locale")]
    assert "usr/share/doc/libc6/copyright" in names
    assert "var/lib/dpkg/status.d/libc6" in names
    assert (root / "etc/passwd").read_text().count("app:x:10001:") == 1
    shutil.copytree(place, root / "opt/release", symlinks=True)
    if os.geteuid() == 0:
        script = "/opt/release/lib/shop-0.1.0/priv/port && echo works | sed s/w/W/ && ls /opt"
        done = subprocess.run(
            ["chroot", root, "/bin/sh", "-c", script], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "Works\nrelease\n"), done.stderr


def test_the_same_packages_give_the_same_base(tmp_path: Path) -> None:
    place = release(tmp_path)
    one, two = debian.base(place), debian.base(place)
    assert archive.digest(one.items) == archive.digest(two.items)


@pytest.mark.skipif(not shutil.which("cc"), reason="compiles a program")
def test_a_library_that_is_nowhere_is_named(tmp_path: Path) -> None:
    place = release(tmp_path)
    lib = program(tmp_path / "libnowhere.so", "-shared", "-Wl,-soname,libnowhere.so.1")
    program(place / "lib/shop-0.1.0/priv/nif.so", "-shared", "-Wl,--no-as-needed", str(lib))
    assert debian.base(place).missing == ("libnowhere.so.1",)


@pytest.mark.skipif(not shutil.which("cc"), reason="compiles a program")
def test_a_library_of_the_release_itself_is_not_missing(tmp_path: Path) -> None:
    place = release(tmp_path)
    own = program(place / "lib/shop-0.1.0/priv/libown.so.1", "-shared", "-Wl,-soname,libown.so.1")
    program(place / "lib/shop-0.1.0/priv/nif.so", "-shared", "-Wl,--no-as-needed", str(own))
    assert debian.base(place).missing == ()


@pytest.mark.skipif(not shutil.which("cc"), reason="compiles a program")
def test_no_program_of_the_release_is_run(tmp_path: Path) -> None:
    """`ldd` would run an interpreter that the file names; and names lead nowhere."""
    place = release(tmp_path)
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    interpreter.chmod(0o755)
    program(place / "bin/evil", f"-Wl,--dynamic-linker={interpreter}")
    lib = program(tmp_path / "x.so", "-shared", "-Wl,-soname,../../../../etc/shadow")
    program(place / "bin/worse.so", "-shared", "-Wl,--no-as-needed", str(lib))
    made = debian.base(place)
    assert not (tmp_path / "ran").exists()
    assert made.missing == ("../../../../etc/shadow",)
    assert not any("shadow" in item.name for item in made.items)


def test_programs_are_read_as_the_dynamic_linker_reads_them() -> None:
    found = linked(Path("/usr/bin/sed"))
    assert found is not None
    said = subprocess.run(["ldd", "/usr/bin/sed"], capture_output=True, text=True, check=True)
    for name in found.needed:
        assert name in said.stdout
    assert "libc.so.6" in found.needed
    assert found.interpreter in said.stdout


@given(st.binary(max_size=300))
def test_no_malformed_file_raises(data: bytes) -> None:
    with open(os.memfd_create("elf"), "wb+") as file:  # noqa: PTH123
        file.write(b"\x7fELF\x02\x01" + data)
        file.flush()
        elf.linked(file.fileno())


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 2**64 - 1)), max_size=200))
def test_no_malformed_program_raises(changes: list[tuple[int, int]]) -> None:
    data = bytearray(Path("/usr/bin/sed").read_bytes()[: 1 << 14])
    for place, value in changes:
        struct.pack_into("<Q", data, place * 8 + 6, value)
    with open(os.memfd_create("elf"), "wb+") as file:  # noqa: PTH123
        file.write(data)
        file.flush()
        elf.linked(file.fileno())


def test_a_machine_without_dpkg_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingProgram, match="no dpkg") as caught:
        debian.base(release(tmp_path), tmp_path / "another")
    assert "image" in caught.value.hint
