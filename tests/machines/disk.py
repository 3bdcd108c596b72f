"""The disks and the kernel of machines: made once for each recipe, and kept."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tests.server import debian
from tests.server.host import cache, locked, run

KERNEL_SUITE = "forky"
"""Of the package user-mode-linux: it is run in a tree of its own, with that suite's libc."""
KERNEL = "usr/bin/linux.uml"
MORE_PACKAGES = ("e2fsprogs", "kmod", "systemd-timesyncd")
SIZE = "10G"
HOST_PACKAGES = {"mmdebstrap": "mmdebstrap", "slirp4netns": "slirp4netns", "mke2fs": "e2fsprogs"}
ADDRESSES = "10.0.2."
FIRST = 15
"""Machine N has the address 10.0.2.15 + N; slirp4netns is 10.0.2.2, its name server 10.0.2.3."""
MACHINES = 2
NETWORK = """\
[Match]
MACAddress={hardware}
[Network]
Address={address}/24
Gateway={prefix}2
"""


def directory() -> Path:
    """All that is kept of machines."""
    return cache().with_name("machines")


def address(number: int) -> str:
    """The address of a machine."""
    return f"{ADDRESSES}{FIRST + number}"


def hardware(number: int) -> str:
    """The hardware address of a machine."""
    return f"02:00:00:00:00:{16 + number:02x}"


def kernel() -> Path:
    """A tree with User-Mode Linux, its libc and its modules."""
    tree = directory() / f"kernel-{KERNEL_SUITE}"
    with locked(directory() / "lock"):
        if not tree.exists():
            new = tree.with_suffix(".new")
            run("rm", "-rf", "--one-file-system", new)
            debian.bootstrap(KERNEL_SUITE, new, ["user-mode-linux"], variant="extract")
            for name in ("bin", "lib", "lib64"):  # what base-files does where it is configured
                if not (new / name).exists():
                    (new / name).symlink_to(f"usr/{name}")
            for name in ("proc", "vm"):
                (new / name).mkdir(exist_ok=True)
            new.rename(tree)
    return tree


def key() -> Path:
    """The private key with which machines are reached as root; the public one is beside it."""
    made = directory() / "key"
    with locked(directory() / "lock"):
        if not made.exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "machines", "-f", made)
    return made


def image(suite: str) -> Path:
    """The disk of a fresh Debian server, which lets `key` in as root."""
    public_key = key().with_suffix(".pub").read_text()
    modules = kernel() / "usr/lib/uml/modules"
    digest = hashlib.sha256(Path(__file__).read_bytes() + public_key.encode())
    digest.update(debian.apt_settings().encode() + repr(debian.PACKAGES).encode())
    for file in (Path(debian.__file__), *debian.own_certificates()):
        digest.update(file.read_bytes())
    made = directory() / f"{suite}-{digest.hexdigest()[:16]}.img"
    with locked(directory() / "lock"):
        if not made.exists():
            for old in directory().glob(f"{suite}-*"):
                run("rm", "-rf", "--one-file-system", old)
            tree = made.with_suffix(".tree")  # of an attempt that was killed there may be a part
            debian.bootstrap(suite, tree, [*debian.PACKAGES, *MORE_PACKAGES])
            _customize(tree, suite, public_key, modules)
            new = made.with_suffix(".new")
            run("truncate", "--size", SIZE, new)
            run("mke2fs", "-q", "-t", "ext4", "-d", tree, new, seconds=300)
            run("rm", "-rf", "--one-file-system", tree, seconds=300)
            new.rename(made)
    return made


def _customize(tree: Path, suite: str, public_key: str, modules: Path) -> None:
    debian.write(tree, "etc/hostname", f"{suite}\n")
    debian.write(tree, "etc/fstab", "/dev/root / ext4 errors=remount-ro 0 1\n")
    debian.write(
        tree, "etc/ssh/sshd_config.d/machine.conf", "UseDNS no\nPasswordAuthentication no\n"
    )
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    debian.write(tree, "etc/resolv.conf", f"nameserver {ADDRESSES}3\n")
    (tree / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    debian.write(tree, "root/.ssh/authorized_keys", f"{public_key.strip()}\n", 0o600)
    for number in range(MACHINES):
        text = NETWORK.format(hardware=hardware(number), address=address(number), prefix=ADDRESSES)
        debian.write(tree, f"etc/systemd/network/10-{number}.network", text)
    link = tree / "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    link.unlink(missing_ok=True)
    link.symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
    debian.make_quiet(tree)
    debian.lend_settings(tree)
    (tree / "usr/lib/modules").mkdir(exist_ok=True)
    shutil.copytree(modules, tree / "usr/lib/modules", dirs_exist_ok=True, symlinks=True)
    debian.forget_identity(tree)
    run("ssh-keygen", "-q", "-A", "-f", tree)
