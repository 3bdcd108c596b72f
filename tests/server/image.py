"""The disks that boxes start from: read-only layers, made once and kept."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.server import debian
from tests.server.debian import write
from tests.server.host import cache, ensure_host_packages, locked, run

if TYPE_CHECKING:
    from collections.abc import Callable

SUITE = os.environ.get("GATLING_BOXES", "bookworm")
"""The Debian of boxes: bookworm, or trixie. Later ones have no cgroups of version 1."""
SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
# PID 1's first step. nspawn mounts the version 1 hierarchies read-only; the part of them that is
# the box's own is writable once remounted, and so are the settings of its own network. Controllers
# that no unit needs are taken away: for each sandbox systemd reads the list of mounts many times.
INIT = """\
#!/bin/sh
umount /sys/fs/cgroup/cpuset /sys/fs/cgroup/freezer /sys/fs/cgroup/blkio 2>/dev/null
for group in /sys/fs/cgroup/*/; do
  group=${group%/}
  case $group in */systemd | */unified) continue ;; esac
  [ -L "$group" ] || mount -o remount,bind,rw "$group" 2>/dev/null
done
mount --bind /proc/sys/net /proc/sys/net && mount -o remount,bind,rw /proc/sys/net
exec /lib/systemd/systemd "$@"\
"""
KEPT_INSTALLED = 2
KEPT = ("cleanup/apt/lists",)
"""apt's lists, which take 4 s of CPU to fetch again."""
LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")

NOT_STARTED = (
    "console-getty.service", "cron.service", "dev-hugepages.mount", "getty.target",
    "sys-fs-fuse-connections.mount", "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path", "systemd-initctl.socket",
    "systemd-sysusers.service", "systemd-tmpfiles-setup-dev.service", "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
)  # fmt: skip
"""Units that no test needs: they take a fifth of the CPU of a boot."""
CREDENTIALS = ("systemd-sysctl.service", "systemd-tmpfiles-setup.service")
"""Units of which each mounts a directory for credentials, which a box does not have."""

_in_use: dict[str, int] = {}  # locks on images, held until this process ends


@dataclass(frozen=True)
class Image:
    """Layers of a disk, the topmost first."""

    name: str
    layers: tuple[Path, ...]


@functools.cache
def clean_image() -> Image:
    """A fresh Debian server. Made by mmdebstrap (a minute), once for each recipe."""
    ensure_host_packages()
    sources = next((file for file in SOURCES if _has_suite(file)), None)
    name = f"clean-{SUITE}-{_key(sources)}"
    directory = _images() / name
    with locked(_images() / "lock"):
        if not directory.exists():
            new = _images() / f"{name}.new"  # only whoever holds the lock makes one
            _remove(new)
            debian.bootstrap(SUITE, new, debian.PACKAGES, sources, LEFT_OUT, skip=KEPT)
            _customize(new)
            new.rename(directory)
            _prune(f"clean-{SUITE}-", keep={name}, newest=0)
        _use(name)
    return Image(name, (directory,))


def layered_image(kind: str, key: str, base: Image, build: Callable[[], Path]) -> Image:
    """An image with a layer on top of `base`, which `build` returns; kept under `kind` and `key`.

    `build` gives up the directory: it is moved. It is called by one process at a time.
    """
    name = f"{kind}-{base.name.partition('-')[2]}-{key}"
    directory = _images() / name
    if name in _in_use:
        return Image(name, (directory, *base.layers))
    with locked(_images() / "lock"):
        if not directory.exists():
            build().rename(directory)
            _prune(f"{kind}-{SUITE}-", keep={name}, newest=KEPT_INSTALLED - 1)
        directory.touch()
        _use(name)
    return Image(name, (directory, *base.layers))


def _images() -> Path:
    return cache() / "images"


def _use(name: str) -> None:
    """Keep others from removing an image as long as this process lives."""
    lock = os.open(_images() / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    _in_use[name] = lock


def remove_image(image: Image) -> None:
    """Remove the topmost layer of an image that no box uses any more."""
    with locked(_images() / "lock"):
        if (lock := _in_use.pop(image.name, None)) is not None:
            os.close(lock)
        _remove_unused(image.layers[0])


def _remove_unused(layer: Path) -> None:
    lock = layer.with_name(f"{layer.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        _remove(layer)
        lock.unlink()


def _prune(prefix: str, keep: set[str], newest: int) -> None:
    """Remove older images that nobody uses."""
    others = [
        path for path in _images().glob(f"{prefix}*")
        if path.is_dir() and path.name not in keep and path.suffix != ".new"
    ]  # fmt: skip
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[newest:]:
        _remove_unused(old)


def _remove(tree: Path) -> None:
    run("rm", "-rf", "--one-file-system", tree, seconds=300)


def _has_suite(file: Path) -> bool:
    return file.exists() and SUITE in file.read_text()


def _key(sources: Path | None) -> str:
    made_by = [Path(__file__), Path(debian.__file__)]
    parts = [*made_by, *([sources] if sources else []), *debian.own_certificates()]
    digest = hashlib.sha256()
    for path in parts:
        digest.update(path.read_bytes() + b"\0")
    digest.update(SUITE.encode() + debian.apt_settings().encode())
    return digest.hexdigest()[:16]


def _customize(tree: Path) -> None:
    write(tree, "sbin/box-init", INIT + "".join(f" {word}" for word in _arguments()) + "\n", 0o755)
    write(tree, "etc/ssh/sshd_config.d/box.conf", "UseDNS no\nPasswordAuthentication no\n")
    journal = "[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\n"
    write(tree, "etc/systemd/journald.conf.d/box.conf", journal)
    debian.make_quiet(tree)
    debian.mask(tree, "etc/systemd/system", NOT_STARTED)
    for unit in CREDENTIALS:
        write(tree, f"etc/systemd/system/{unit}.d/box.conf", "[Service]\nLoadCredential=\n")
    # of no use here, and half of the CPU of a daemon-reload
    generators = (tree / "usr/lib/systemd/system-generators").glob("systemd-*")
    debian.mask(tree, "etc/systemd/system-generators", sorted(file.name for file in generators))
    debian.lend_settings(tree)
    debian.forget_identity(tree)


def _arguments() -> list[str]:
    """Of PID 1: systemd from Debian 13 on asks for consent to cgroups of version 1."""
    return [] if SUITE == "bookworm" else ["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]


def seal(root: Path) -> None:
    """Take out of a stopped box what was its own, and what only takes room."""
    for pattern in ("var/log/journal/*", "var/cache/apt/archives/*.deb", "tmp/*", "var/tmp/*"):
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    with contextlib.suppress(FileNotFoundError):
        (root / "root/.ssh/authorized_keys").unlink()
