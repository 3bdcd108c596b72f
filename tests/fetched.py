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
    (root / "sources.list").write_text(f"deb {mirror} {suite} main\n")
    for directory in ("state/lists/partial", "cache/archives/partial", "new"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={root}/sources.list",
           "-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State={root}/state",
           "-o", f"Dir::Cache={root}/cache", "-o", "Acquire::Languages=none",
           "-o", "APT::Sandbox::User=root"]  # fmt: skip
    subprocess.run([*apt, "update"], check=True, timeout=300)
    subprocess.run([*apt, "download", package], check=True, timeout=300, cwd=root)
    (file,) = root.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "-x", file, root / "new"], check=True, timeout=60)
    (root / "new").rename(root / "tree")
    for left in (root / "state", root / "cache"):
        shutil.rmtree(left)
    file.unlink()
