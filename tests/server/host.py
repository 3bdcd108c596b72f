"""What the bed of boxes needs of the machine it runs on."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
PACKAGES = {  # a program of each Debian package
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "ssh": "openssh-client",
}
NO_DISK = {"overlay", "tmpfs", "ramfs", "fuse-overlayfs", "nfs", "9p", "virtiofs"}
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class BedError(Exception):
    """The bed itself failed, not what is tested in it."""


def why_not() -> str | None:
    """Why there can be no boxes here; nothing if there can."""
    if not sys.platform.startswith("linux"):
        return "boxes are made by systemd-nspawn: Linux only"
    if os.geteuid() != 0:
        return "boxes (booted Debian servers) need root: namespaces, cgroups, mounts"
    if not _may_administrate():
        return "boxes (booted Debian servers) need the capability CAP_SYS_ADMIN: mounts, namespaces"
    if shutil.which("apt-get") is None and _missing():
        return f"boxes need these Debian packages: {' '.join(_missing())}"
    return None


def _may_administrate() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> 21 & 1)  # root of a container may not have it


def ensure_host_packages(packages: Mapping[str, str] = PACKAGES) -> None:
    """Install packages, each named by a program of it, if they are not there: those of boxes."""
    if not _missing(packages):
        return
    with locked(cache() / "packages.lock"):
        if not (missing := _missing(packages)):
            return
        # the trigger of man-db took minutes on a machine with many packages; this file asks for it
        Path("/var/lib/man-db/auto-update").unlink(missing_ok=True)
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-qq", env=env, seconds=300)
        run(
            "apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing,
            env=env, seconds=600,
        )  # fmt: skip


def _missing(packages: Mapping[str, str] = PACKAGES) -> list[str]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [
        package for program, package in packages.items() if not shutil.which(program, path=path)
    ]


def run(
    *argv: str | Path,
    check: bool = True,
    seconds: float = 120,
    env: dict[str, str] | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; a failure shows what it printed.

    It has a process group of its own, all of which is ended when the time is over or the test is
    interrupted: `nsenter` would leave behind what it started.
    """
    words = [str(word) for word in argv]
    process = subprocess.Popen(
        words, env=env, text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            out, err = process.communicate(stdin, timeout=seconds)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    done = subprocess.CompletedProcess(words, process.returncode, out, err)
    if check and done.returncode:
        raise BedError(
            f"{' '.join(words)} ended with {done.returncode}\n{out[-4000:]}{err[-4000:]}"
        )
    return done


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; it ends with its process, so it is never stale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cache() -> Path:
    """Where images and records of boxes lie: on a real disk, since overlays are put on it."""
    home = os.environ.get("XDG_CACHE_HOME")
    wanted = (Path(home) if home else Path.home() / ".cache") / "gatling" / "boxes"
    return wanted if filesystem(wanted) not in NO_DISK else Path("/var/tmp/gatling-boxes")


def filesystem(path: Path) -> str:
    """The type of the file system that a path, which need not exist, lies or would lie on."""
    path = path.resolve()
    best, found = -1, ""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted, kind, *_ = line.split()
        point = Path(mounted.encode().decode("unicode_escape"))  # a space is \040
        # later lines are mounted over earlier ones
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), kind
    return found


def is_mounted(path: Path) -> bool:
    """Whether something is mounted at a path."""
    points = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    return str(path) in (point.encode().decode("unicode_escape") for point in points)


@contextlib.contextmanager
def in_network(namespace: Path) -> Iterator[None]:
    """Be in a network namespace with the calling thread; other threads are not moved."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(here)
    finally:
        os.close(here)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
