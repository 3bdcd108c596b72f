"""A server that is installed from the package, and updated from a newer one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from gatling.errors import Exit
from tests.conftest import ROOT, until
from tests.server.server import SOURCES, Server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.box import Box
    from tests.server.conftest import Boxes
    from tests.server.image import Image

PLACE = "/opt/gatling-package"
PYTHON = f"{PLACE}/bin/python"
OURS = f"{PLACE}/bin/gatling"


def wheel(source: Path, box: Box) -> str:
    """A package of these sources, in the box."""
    directory = source / "dist"
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    (made,) = directory.glob("*.whl")
    shutil.copy(made, box.root / "root")
    return f"/root/{made.name}"


def sources(target: Path) -> Path:
    """A copy of the sources, which may be changed."""
    target.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, target / name)
    return target


def test_a_server_from_a_package_and_a_newer_one(
    boxes: Boxes, venv_image: Image, tmp_path: Path
) -> None:
    box = boxes(None, venv_image)
    source = sources(tmp_path / "source")
    package = wheel(source, box)
    box.exec(["python3", "-m", "venv", PLACE])
    box.online([PYTHON, "-m", "pip", "install", "--quiet", package])
    # as in root's home, where pipx and uv would put it
    box.exec(["chmod", "700", PLACE])
    refused = box.exec([OURS, "server", "install"], check=False)
    assert refused.returncode == Exit.INVALID
    assert f"{PLACE} is writable by users other than root, or not readable by all" in refused.stderr
    assert f"python3 -m venv {PLACE}" in refused.stderr
    box.exec(["chmod", "755", PLACE])
    box.online([OURS, "server", "install"], timeout=1200)
    server = Server(box, tmp_path)
    ann = server.let_in("ann", "shop")
    project = ann.project()
    project.push()
    said = server.gatling("server", "update", status=Exit.INVALID)
    assert f"{PYTHON} -m pip install --upgrade gatling-NEW.whl" in " ".join(said.split())
    live = server.status()
    units = source / "src/gatling/platform/server/units.py"
    units.write_text(units.read_text().replace("TasksMax=8192", "TasksMax=8000"))
    version = source / "src/gatling/__init__.py"
    version.write_text(version.read_text().replace(".dev0", ".dev1"))
    shutil.rmtree(source / "dist")
    newer = wheel(source, box)
    assert newer != package
    with server.client(threads=2) as client:
        box.online([PYTHON, "-m", "pip", "install", "--quiet", "--upgrade", newer])
        did = box.online([OURS, "server", "install"]).stdout
        assert "write /etc/systemd/system/gatling@.service" in did
        assert ".dev1" in ann.run("version")
        project.title("Newer")
        assert " is live (hot upgrade) in " in project.push()
        until(lambda: "Newer" in client.texts[-1], "the new page")
    assert client.failures == []
    assert server.status()["pid"] == live["pid"]
    server.gatling("server", "check")
