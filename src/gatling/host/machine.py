"""The machine that Gatling is installed on: its users, places and programs."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from gatling import process
from gatling.paths import SERVER
from gatling.platform.server import units

COMMAND = Path("/usr/local/bin/gatling")
MANUAL = Path("/usr/local/share/man/man1/gatling.1")
ETC = Path("/etc/gatling")
UNITS = Path("/etc/systemd/system")
OLDEST_SYSTEMD = 250
"""The first that gives credentials to units whose files other users cannot read."""


def app_names() -> list[str]:
    """The apps of this host, by their directories."""
    try:
        return sorted(d.name for d in (SERVER / "apps").iterdir() if not d.name.startswith("."))
    except OSError:
        return []


def has_keys() -> bool:
    """Whether anybody is let in over SSH."""
    try:
        return bool((SERVER / "home" / ".ssh" / "authorized_keys").read_text().strip())
    except OSError:
        return False


def has_user(name: str = units.OWNER) -> bool:
    """Whether this machine has a user of that name."""
    return any(user.pw_name == name for user in pwd.getpwall())


def systemd_version() -> int:
    """The version of the systemd that runs this machine; 0 when another init does."""
    if not Path("/run/systemd/system").is_dir():
        return 0
    words = process.output(["systemctl", "--version"]).split()
    return int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0


def exposed(path: Path) -> Path | None:
    """The first part of a path that others than root own or may write, or cannot enter."""
    for part in (*reversed(path.parents), path):
        try:
            info = part.stat()
        except FileNotFoundError:  # to be made by root
            return None
        if info.st_uid != 0 or info.st_mode & 0o022 or not info.st_mode & 0o005:
            return part
    return None


def placed(path: Path) -> Path:
    """The final path of a file of this installation, which bin/install first tries elsewhere."""
    wanted = os.environ.get("GATLING_INSTALLED_AS")
    return Path(wanted) / path.relative_to(sys.prefix) if wanted else path


def clean_environment() -> dict[str, str]:
    """Of root's environment what Gatling's own commands need."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8", "HOME": "/root"}  # fmt: skip


def run(argv: list[str], *, check: bool = True, env: dict[str, str] | None = None) -> None:
    """Run a program of root's; raises CommandFailed unless `check` is False."""
    process.run(argv, timeout=300, check=check, env=env or clean_environment())


def as_owner(*words: str) -> None:
    """Run `gatling WORDS` as gatling; raises CommandFailed with what it said."""
    run([sys.executable, "-I", "-m", "gatling", *words], env=clean_environment())
