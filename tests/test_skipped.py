"""No test is skipped for a program that `bin/test` could have installed."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from tests.conftest import ROOT

LOOKED_FOR = re.compile(r'which\("([a-z][a-z0-9.-]+)"')
ELSEWHERE = {
    "chromium-browser": "the name of chromium on other distributions",
    "initdb": "Debian keeps it off PATH, in the directory of its version",
    "npm": "a test of projects that have it; it brings 400 packages",
    "pgbouncer": "Debian's package is unpacked for the test that runs it",
}
"""Programs that tests look for, and that bin/setup.sh need not install."""


@pytest.mark.skipif(not shutil.which("dpkg"), reason="bin/setup.sh installs Debian's packages")
def test_what_tests_look_for_is_installed() -> None:
    """bin/setup.sh installs it. A machine had it by chance, and the next one skipped 25 tests."""
    names = {
        name
        for file in (ROOT / "tests").rglob("*.py")
        for name in LOOKED_FOR.findall(file.read_text())
    }
    assert {"chromium", "nft", "skopeo"} <= names
    assert set(ELSEWHERE) <= names, "no test looks for it any more"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    assert [n for n in names - set(ELSEWHERE) if not shutil.which(n, path=path)] == []
