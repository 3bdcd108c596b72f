"""The disks that boxes start from: read-only layers, made once and kept."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.server.host import cache, ensure_host_packages, locked, run

if TYPE_CHECKING:
    from collections.abc import Callable

SUITE = "bookworm"
# A fresh Debian server, and no more: what Gatling needs besides its installation has to bring.
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "libpam-systemd", "udev", "openssh-server",
    "ca-certificates", "curl", "iproute2", "procps", "less", "cron", "git", "python3",
)  # fmt: skip
SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")
# PID 1's first step. nspawn mounts the version 1 hierarchies read-only; the part of them that is
# the box's own is writable once remounted, and so are the settings of its own network.
INIT = """\
#!/bin/sh
for group in /sys/fs/cgroup/*/; do
  group=${group%/}
  case $group in */systemd | */unified) continue ;; esac
  [ -L "$group" ] || mount -o remount,bind,rw "$group" 2>/dev/null
done
mount --bind /proc/sys/net /proc/sys/net && mount -o remount,bind,rw /proc/sys/net
exec /lib/systemd/systemd "$@"
"""
# no surprise work in the middle of a test
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "fstrim.timer", "man-db.timer",
)  # fmt: skip
KEPT_INSTALLED = 2

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
    name = f"clean-{_key(sources)}"
    directory = _images() / name
    with locked(_images() / "lock"):
        if not directory.exists():
            new = _images() / f"{name}.new"  # only whoever holds the lock makes one
            _remove(new)
            _debootstrap(new, sources)
            _customize(new)
            new.rename(directory)
            _prune("clean-", keep={name}, newest=0)
        _use(name)
    return Image(name, (directory,))


def installed_image(key: str, base: Image, build: Callable[[], Path]) -> Image:
    """An image with a layer on top of `base`, which `build` returns; kept under `key`.

    `build` gives up the directory: it is moved. It is called by one process at a time.
    """
    name = f"installed-{base.name.removeprefix('clean-')}-{key}"
    directory = _images() / name
    if name in _in_use:
        return Image(name, (directory, *base.layers))
    with locked(_images() / "lock"):
        if not directory.exists():
            build().rename(directory)
            _prune("installed-", keep={name}, newest=KEPT_INSTALLED - 1)
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


def _certificates() -> list[Path]:
    return sorted(OWN_CERTIFICATES.glob("*.crt"))


def _key(sources: Path | None) -> str:
    parts = [Path(__file__), *([sources] if sources else []), *_certificates()]
    digest = hashlib.sha256()
    for path in parts:
        digest.update(path.read_bytes() + b"\0")
    digest.update(_apt_settings().encode())
    return digest.hexdigest()[:16]


def _apt_settings() -> str:
    """Proxies and the like, that apt needs here as there."""
    lines = run("apt-config", "dump").stdout.splitlines()
    wanted = re.compile(r"Acquire::(https?::|Retries |Check-|ForceIPv)")
    return "".join(f"{line}\n" for line in lines if wanted.match(line))


def _debootstrap(tree: Path, sources: Path | None) -> None:
    settings = tree.with_name(f"{tree.name}.apt")
    settings.write_text(_apt_settings() + 'APT::Install-Recommends "false";\n')
    run(
        # in namespaces of its own: nothing of it goes on when this process is killed
        "setpriv", "--pdeathsig", "KILL",
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory",
        f"--include={','.join(PACKAGES)}",
        f"--aptopt={settings}",
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        SUITE, tree, *([sources] if sources else []),
        seconds=900, env=os.environ | {"TMPDIR": str(tree.parent)},
    )  # fmt: skip
    settings.unlink()


def _customize(tree: Path) -> None:
    _write(tree, "sbin/box-init", INIT, 0o755)
    _write(tree, "etc/ssh/sshd_config.d/box.conf", "UseDNS no\nPasswordAuthentication no\n")
    _write(tree, "etc/default/locale", "LANG=C.UTF-8\n")
    (tree / "var/log/journal").mkdir(exist_ok=True)  # the journal lasts over reboots
    journal = "[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\n"
    _write(tree, "etc/systemd/journald.conf.d/box.conf", journal)
    for timer in MASKED:
        link = tree / "etc/systemd/system" / timer
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    # apt in a box does what it does on any server; only proxies and the like are this machine's
    (tree / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    if settings := _apt_settings():
        _write(tree, "etc/apt/apt.conf.d/90host", settings)
    if certificates := _certificates():
        for file in certificates:
            shutil.copy(file, tree / "usr/local/share/ca-certificates")
        run("chroot", tree, "update-ca-certificates")
        # Debian's Python does not ask for it, but pip has certificates of its own otherwise
        _write(tree, "etc/pip.conf", "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
    # each box gets its own
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (tree / "etc/machine-id").write_text("")
    (tree / "var/lib/dbus/machine-id").unlink(missing_ok=True)


def _write(tree: Path, path: str, text: str, mode: int = 0o644) -> None:
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


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
