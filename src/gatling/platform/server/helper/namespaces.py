"""Gives each app a journal namespace, and removes it with all that the app has printed."""

import shutil
from collections.abc import Callable
from pathlib import Path

from gatling import files
from gatling.platform.server import namespaces
from gatling.platform.server.helper import unit_files
from gatling.platform.server.units import user

CONFIGURATIONS = Path("/etc/systemd")
JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))


def write(units: Path, app: str, written: unit_files.UnitFiles) -> None:
    """Write what an app's journald needs, unless it is there."""
    name, text = namespaces.configuration(app)
    file = CONFIGURATIONS / name
    if not file.exists() or file.read_text() != text:
        files.write(file, text, mode=0o644)
    for unit, lines in namespaces.drop_ins(app).items():
        written.write(units / f"{unit}.d" / "gatling.conf", lines)


def start(app: str, call: Callable[..., object]) -> None:
    """Start an app's journald, for an instance that is started without its dependencies.

    Its failure must not keep the instance from starting.
    """
    call(["systemctl", "start", namespaces.service(app)], check=False)


def remove(units: Path, app: str, call: Callable[..., object]) -> None:
    """Stop an app's journald, and remove its files and its journal."""
    # the sockets first, or they would start it again
    call(["systemctl", "stop", *namespaces.sockets(app), namespaces.service(app)], check=False)
    (CONFIGURATIONS / namespaces.configuration(app)[0]).unlink(missing_ok=True)
    with unit_files.writing(call) as written:
        written.remove(*(units / f"{unit}.d" for unit in namespaces.drop_ins(app)))
    for root in JOURNALS:
        for directory in root.glob(f"*.{user(app)}"):
            shutil.rmtree(directory, ignore_errors=True)


def remove_all(units: Path, call: Callable[..., object]) -> None:
    """Stop all of them, and remove their files. Their journals stay."""
    call(["systemctl", "stop", namespaces.UNITS], check=False)
    for directory in units.glob(namespaces.DROP_INS):
        shutil.rmtree(directory)
    for file in CONFIGURATIONS.glob(namespaces.CONFIGURATIONS):
        file.unlink()


def journals() -> list[Path]:
    """The journals of all apps, also of apps that were removed with an older machine's name."""
    return [path for root in JOURNALS for path in root.glob(namespaces.JOURNALS)]
