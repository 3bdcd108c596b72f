"""A fresh Debian server as a tree: made by mmdebstrap, for boxes and for machines."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.server.host import run

if TYPE_CHECKING:
    from collections.abc import Iterable

# A fresh Debian server, and no more: what Gatling needs besides its installation has to bring.
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "libpam-systemd", "udev", "openssh-server",
    "ca-certificates", "curl", "iproute2", "procps", "less", "cron", "git", "python3",
)  # fmt: skip
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "fstrim.timer", "man-db.timer", "e2scrub_reap.service",
)  # fmt: skip
"""They would do surprising work in the middle of a test."""
OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")


def own_certificates() -> list[Path]:
    """The certificates of authorities that this machine trusts besides Debian's."""
    return sorted(OWN_CERTIFICATES.glob("*.crt"))


def apt_settings() -> str:
    """Proxies and the like, that apt needs here as there."""
    lines = run("apt-config", "dump").stdout.splitlines()
    wanted = re.compile(r"Acquire::(https?::|Retries |Check-|ForceIPv)")
    return "".join(f"{line}\n" for line in lines if wanted.match(line))


def mirror() -> str | None:
    """The mirror of Debian that this machine uses; None when apt knows none."""
    for line in run("apt-get", "--print-uris", "update", check=False).stdout.splitlines():
        uri, found, _ = line.lstrip("'").partition("/dists/")
        if found and uri.rstrip("/").endswith("/debian"):
            return uri.rstrip("/")
    return None


def bootstrap(
    suite: str,
    tree: Path,
    packages: Iterable[str],
    sources: Path | None = None,
    left_out: Iterable[str] = (),
    *,
    variant: str = "minbase",
    skip: Iterable[str] = (),
) -> None:
    """Make a tree of a suite with these packages; `left_out` are patterns of files.

    `skip` are steps of mmdebstrap that are left out.

    `sources` is a file for apt with that suite; without one it is the machine's mirror.
    """
    settings = tree.with_name(f"{tree.name}.apt")
    settings.write_text(apt_settings() + 'APT::Install-Recommends "false";\n')
    source = str(sources) if sources else mirror()
    run(
        # in namespaces of its own: nothing of it goes on when this process is killed
        "setpriv", "--pdeathsig", "KILL",
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "mmdebstrap", "--quiet", "--mode=root", f"--variant={variant}", "--format=directory",
        f"--include={','.join(packages)}",
        f"--aptopt={settings}",
        "--dpkgopt=force-unsafe-io",
        *(f"--skip={step}" for step in skip),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in left_out),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        suite, tree, *([source] if source else []),
        seconds=900, env=os.environ | {"TMPDIR": str(tree.parent)},
    )  # fmt: skip
    settings.unlink()


def make_quiet(tree: Path) -> None:
    """No work by the clock, and a journal that lasts over reboots."""
    write(tree, "etc/default/locale", "LANG=C.UTF-8\n")
    (tree / "var/log/journal").mkdir(exist_ok=True)
    mask(tree, "etc/systemd/system", MASKED)


def mask(tree: Path, directory: str, names: Iterable[str]) -> None:
    """Have systemd ignore its own units, or generators, of these names."""
    (tree / directory).mkdir(exist_ok=True)
    for name in names:
        link = tree / directory / name
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")


def lend_settings(tree: Path) -> None:
    """Let apt and pip reach there what they reach here."""
    # apt does what it does on any server; only proxies and the like are this machine's
    (tree / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    if settings := apt_settings():
        write(tree, "etc/apt/apt.conf.d/90host", settings)
    if certificates := own_certificates():
        for file in certificates:
            shutil.copy(file, tree / "usr/local/share/ca-certificates")
        run("chroot", tree, "update-ca-certificates")
        # Debian's Python does not ask for it, but pip has certificates of its own otherwise
        write(tree, "etc/pip.conf", "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")


def forget_identity(tree: Path) -> None:
    """Take out what each server has of its own."""
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    write(tree, "etc/machine-id", "")
    (tree / "var/lib/dbus/machine-id").unlink(missing_ok=True)


def write(tree: Path, path: str, text: str, mode: int = 0o644) -> None:
    """Write a file of a tree, with the directories above it."""
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
