"""Libraries that were replaced while programs use them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gatling.host import libraries, uninstall

if TYPE_CHECKING:
    from pathlib import Path

USING = """\
import mmap, sys

with open(sys.argv[1], "rb") as file:
    used = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_library_that_is_used_and_was_replaced(tmp_path: Path) -> None:
    library = tmp_path / "libcrypto.so.3"
    library.write_bytes(b"old")
    argv = [sys.executable, "-c", USING, str(library)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as using:
        assert using.stdin is not None
        assert using.stdout is not None
        using.stdout.readline()
        here = f"{tmp_path}/"
        assert libraries.replaced(os.getuid(), here) == []
        new = tmp_path / "new"  # as dpkg does
        new.write_bytes(b"new")
        new.rename(library)
        assert libraries.replaced(os.getuid(), here) == ["libcrypto.so.3"]
        assert libraries.replaced(os.getuid(), here, pooler=True) == []
        assert libraries.replaced(os.getuid() + 1, here) == []
        assert libraries.replaced(os.getuid(), f"{tmp_path}/elsewhere/") == []
        using.stdin.close()


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("name", ["NEEDRESTART", "RESTART_NGINX"])
def test_a_removal_leaves_what_needrestart_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, other: bool
) -> None:
    file = tmp_path / "needrestart/conf.d/gatling.conf"
    monkeypatch.setattr(libraries, name, file)
    file.parent.mkdir(parents=True)
    file.write_text(libraries.NEEDRESTART_TEXT)
    if other:
        (file.parent / "README.needrestart").touch()
    uninstall.unlink(file)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == (
        ["README.needrestart"] if other else []
    )
    assert (tmp_path / "needrestart").exists() == other
