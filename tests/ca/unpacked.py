"""Programs of Debian's packages, fetched once by apt and unpacked: nothing is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server.host import locked


def program(package: str, path: str) -> tuple[Path, dict[str, str]]:
    """A program of a package, and an environment with the libraries that came along.

    Skips the test without Debian's apt, its lists or its mirror.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip(f"{package} is fetched with Debian's apt")
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatling" / package
    with locked(root / "lock"):
        if not (root / "tree" / path).exists():
            _fetch(package, root)
    libraries = ":".join(str(one) for one in (root / "tree/usr/lib").glob("*-linux-gnu*"))
    return root / "tree" / path, os.environ | {"LD_LIBRARY_PATH": libraries}


def _fetch(package: str, root: Path) -> None:
    plan = subprocess.run(["apt-get", "-s", "--no-install-recommends", "install", package],
                          capture_output=True, text=True, check=False).stdout  # fmt: skip
    packages = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
    if not packages:
        pytest.skip("apt has no list of packages: `apt-get update`")
    shutil.rmtree(root / "new", ignore_errors=True)
    (root / "new").mkdir()
    apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages]
    if subprocess.run(
        apt, check=False, timeout=300, cwd=root
    ).returncode:  # `bin/test-debian` runs the tests without a network
        pytest.skip(f"{package} could not be downloaded")
    for file in root.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", file, root / "new"], check=True, timeout=60)
        file.unlink()
    (root / "new").rename(root / "tree")
