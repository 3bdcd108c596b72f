"""Installed toolchains on the disk: one directory each, which appears and goes by a rename.

DIRECTORY/1.18.4-otp-27.3.4/    elixir/, erlang/, bin/ (links into both), toolchain.json
DIRECTORY/.new-…/               of an installation that is under way, or was killed
DIRECTORY/.lock                 held by the one command that installs or removes

Root's helper uses this module as well, so it imports little.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gatling import files
from gatling.errors import CommandFailed, DiskFull, GatlingError, InvalidInput, NotFound
from gatling.platform.toolchains import assemble
from gatling.platform.toolchains.order import MARK
from gatling.project import toolchains
from gatling.project.toolchains import Toolchain, Version, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.platform.toolchains.order import Order

FACTS = "toolchain.json"
LEFT = (".new-", ".gone-")
"""Beginnings of the names of directories that nobody uses."""
INSTALL_SECONDS = 3600.0
WAIT_SECONDS, REMOVE_SECONDS = 900.0, 10.0
"""Limits of the time that an installation, and a removal, waits for others."""
POLL_SECONDS = 0.1
_ERRORS: dict[str, type[GatlingError]] = {
    kind.code: kind for kind in (InvalidInput, NotFound, DiskFull, CommandFailed)
}
"""The errors of fetch.py."""


class Installed(NamedTuple):
    """An installed toolchain."""

    name: str
    elixir: Version
    otp: Version
    bytes: int
    """Its use of the disk."""
    source: str
    """The mirror or the paths that it comes from."""

    @property
    def plain(self) -> Toolchain:
        """The same, for the choice of one."""
        return Toolchain(self.name, self.elixir, self.otp)


def installed(directory: Path) -> list[Installed]:
    """The toolchains in a directory, the newest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for each in directory.iterdir():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found.append(_read(each))
    return sorted(found, key=lambda each: (each.elixir.order, each.otp.order), reverse=True)


def one(directory: Path, name: str) -> Installed:
    """An installed toolchain; raises NotFound."""
    for each in installed(directory):
        if each.name == name:
            return each
    raise NotFound(f"The toolchain {name} is not installed.")


def _read(directory: Path) -> Installed:
    facts = json.loads((directory / FACTS).read_text())
    elixir, otp = version(facts["elixir"]), version(facts["otp"])
    if elixir is None or otp is None or directory.name != toolchains.name(elixir, otp):
        raise ValueError(directory)
    return Installed(directory.name, elixir, otp, int(facts["bytes"]), str(facts["source"]))


def programs(directory: Path, name: str) -> Path:
    """The directory of a toolchain's programs, for the front of a PATH."""
    return directory / name / "bin"


def on_path(path: str, name: str = toolchains.SYSTEM) -> Toolchain | None:
    """The toolchain that a PATH leads to, read from its files.

    None where a version manager's wrapper decides only when it is run.
    """
    elixir, erl = (shutil.which(program, path=path) for program in ("elixir", "erl"))
    if elixir is None or erl is None:
        return None
    one = assemble.elixir_version(Path(elixir).resolve().parents[1])
    other = assemble.otp_version(Path(erl).resolve().parents[1])
    return None if one is None or other is None else Toolchain(name, one, other)


@contextlib.contextmanager
def workshop(
    directory: Path,
    called_off: Callable[[float], bool] | None = None,
    before: Callable[[], None] | None = None,
) -> Iterator[Path]:
    """A new, empty directory for one installation, which waits for others.

    It is removed at the end. Leftovers of installations that were killed are removed first, after
    `before` has stopped what may still write there. `called_off` waits for some seconds for the
    client to give up; without it, this only waits. Raises InvalidInput when others take too long.
    """
    with files.locked(directory / ".lock", _Patience(WAIT_SECONDS, called_off)):
        if before is not None:
            before()
        for left in directory.iterdir():
            if left.name.startswith(LEFT):
                shutil.rmtree(left, ignore_errors=True)
        files.need_space(directory, "A toolchain")
        work = directory / f"{LEFT[0]}{os.urandom(4).hex()}"
        work.mkdir(mode=0o700)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def adopt(tree: Path, directory: Path, order: Order) -> Installed:
    """Take a finished tree into use under its name, which its own files say; raises InvalidInput.

    It is on the disk, whole, before it has its name.
    """
    elixir, otp = assemble.elixir_version(tree / "elixir"), assemble.otp_version(tree / "erlang")
    if elixir is None or otp is None or not (tree / "bin/elixir").exists():
        raise InvalidInput("The toolchain is not whole; nothing was installed.")
    name = toolchains.name(elixir, otp)
    if (directory / name).exists():
        return _read(directory / name)
    facts = {
        "elixir": str(elixir),
        "otp": str(otp),
        "bytes": _size(tree),
        "source": " ".join(order.paths) if order.paths else order.mirror,
    }
    files.write(tree / FACTS, json.dumps(facts), mode=0o644)
    tree.chmod(0o755)
    os.sync()
    tree.rename(directory / name)
    files.sync(directory)
    return _read(directory / name)


def remove(directory: Path, name: str) -> None:
    """Remove a toolchain; raises NotFound."""
    one(directory, name)
    with files.locked(directory / ".lock", _Patience(REMOVE_SECONDS)):
        aside = directory / f"{LEFT[1]}{os.urandom(4).hex()}"
        with contextlib.suppress(FileNotFoundError):
            (directory / name).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


class _Patience:
    """Waits for other installations, a moment at a time, and gives up after so many seconds."""

    def __init__(self, seconds: float, called_off: Callable[[float], bool] | None = None) -> None:
        self._until = time.monotonic() + seconds
        self._called_off = called_off or _pause

    def __call__(self) -> None:
        if self._called_off(POLL_SECONDS):
            raise InvalidInput("The installation was called off; nothing was installed.")
        if time.monotonic() > self._until:
            raise InvalidInput(
                "Another toolchain is being installed or removed, and nothing was changed.",
                hint="Try again when that has ended.",
            )


def _pause(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _size(directory: Path) -> int:
    """The bytes of all files below a directory, as the disk has them."""
    total = 0
    for at, _, names in os.walk(directory):
        for name in names:
            total += os.lstat(os.path.join(at, name)).st_blocks * 512  # noqa: PTH118 (many)
    return total


class Report:
    """Takes the result of fetch.py out of its lines."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._result: dict[str, str] = {}

    def line(self, text: str) -> None:
        """A line that the program printed."""
        if not text.startswith(MARK):
            self._say(text)
            return
        with contextlib.suppress(ValueError):
            said = json.loads(text[1:])
            if isinstance(said, dict):
                self._result = {str(key): str(value) for key, value in said.items()}

    @property
    def name(self) -> str:
        """The name of the toolchain, empty without a result; raises the error of the program."""
        if "what" in self._result:
            kind = _ERRORS.get(self._result.get("code", ""), CommandFailed)
            raise kind(self._result["what"], hint=self._result.get("hint", ""))
        return self._result.get("name", "")
