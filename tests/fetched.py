"""Programs of Debian packages for tests, which are fetched once and not installed.

By apt in a directory of its own, from a suite that need not be the machine's; unpacked there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server import debian
from tests.server.host import locked


def unpacked(package: str, suite: str) -> Path:
    """The tree of a package; skips the test without Debian's apt."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip(f"{package} is fetched with Debian's apt")
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatling" / package
    with locked(root / "lock"):
        if not (root / "tree").exists():
            mirror = debian.mirror()
            if mirror is None:
                pytest.skip(f"{package} is fetched from Debian's mirror, and apt knows none")
            _fetch(package, suite, root, mirror)
    return root / "tree"


def _fetch(package: str, suite: str, root: Path, mirror: str) -> None:
    lists = root.parent / f"apt-{suite}"  # of all packages of a suite: they take 2 s of CPU
    with locked(root.parent / f"apt-{suite}.lock"):
        (lists / "state/lists/partial").mkdir(parents=True, exist_ok=True)
        (lists / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
        (lists / "sources.list").write_text(f"deb {mirror} {suite} main\n")
        apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={lists}/sources.list",
               "-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State={lists}/state",
               "-o", f"Dir::Cache={lists}/cache", "-o", "Acquire::Languages=none",
               "-o", "APT::Sandbox::User=root"]  # fmt: skip
        fetch = [*apt, "download", package]
        done = subprocess.run(fetch, check=False, capture_output=True, timeout=300, cwd=root)
        if done.returncode:
            subprocess.run([*apt, "update"], check=True, timeout=300)  # there are none, or old ones
            subprocess.run(fetch, check=True, timeout=300, cwd=root)
    (root / "new").mkdir(exist_ok=True)
    (file,) = root.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "-x", file, root / "new"], check=True, timeout=60)
    (root / "new").rename(root / "tree")
    file.unlink()
