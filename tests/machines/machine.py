"""A machine: a real kernel with cgroups of version 2, and Debian's systemd, in User-Mode Linux.

It has what `tests.server.box.Box` has of what the helpers in `tests.server` use, so that the same
`Server`, `Person` and `Checkout` work with it. All goes through ssh: its disk is its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.machines import disk
from tests.server.host import BedError, run
from tests.server.reached import Reached

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.machines.lan import MachineLan

MEMORY = "2048M"
# a mount namespace of its own: nothing is left mounted, however it ends
BOOT = """\
set -eu
mount --bind "$2" "$1/vm"
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
tree=$1; shift 2
exec chroot "$tree" "$@"
"""


class Machine(Reached):
    """A server with a kernel of its own. `directory` keeps its disk and its console."""

    patience = 60.0

    def __init__(self, lan: MachineLan, number: int, image: Path, directory: Path) -> None:
        self.lan, self.number, self.image, self.directory = lan, number, image, directory
        self.key = disk.key()
        self.name = f"{image.stem.partition('-')[0]}{number}"
        self.ip = disk.address(number)
        self.ssh_config = directory / "ssh_config"
        directory.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._write_ssh_config()

    def _write_ssh_config(self) -> None:
        self.ssh_config.write_text(
            f"Host {self.name}\n  HostName {self.ip}\n"
            "Host *\n"
            "  IdentitiesOnly yes\n  BatchMode yes\n  ControlMaster no\n"
            "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
            "  ConnectTimeout 120\n  ServerAliveInterval 15\n  ServerAliveCountMax 20\n"
        )

    # ------------------------------------------------------------------ its life

    @property
    def is_on(self) -> bool:
        """Whether its kernel runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, seconds: float | None = 600) -> None:
        """Boot, with the disk as it is, and wait until it is usable (with None, do not)."""
        if self.is_on:
            raise BedError(f"{self.name} is on")
        tree, bound = disk.kernel(), disk.directory()
        inside, mac = Path("/vm"), disk.hardware(self.number)
        own = inside / self.directory.relative_to(bound)
        with (self.directory / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "KILL",
                    "nsenter", f"--net={self.lan.path}", "unshare", "--mount",
                    "sh", "-c", BOOT, "boot", str(tree), str(bound),
                    f"/{disk.KERNEL}", f"mem={MEMORY}", f"umid={self.lan.name}-{self.number}",
                    f"uml_dir={own}/", f"ubd0={own / 'disk.cow'},{inside / self.image.name}",
                    "root=/dev/ubda", "rw", "con=null", "con0=null,fd:1", "seccomp=off",
                    f"vec0:transport=tap,ifname=t{self.number},mac={mac},depth=128",
                ],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip
        if seconds is not None:
            self.wait_ready(seconds)

    def wait_ready(self, seconds: float = 600) -> None:
        """Wait until it is booted and ssh answers."""
        deadline, state = time.monotonic() + seconds, "not begun"
        while True:
            if not self.is_on:
                raise BedError(f"{self.name} ended while booting ({state})\n{self.logs()}")
            if time.monotonic() > deadline:
                raise BedError(f"{self.name}: {state} after {seconds} s\n{self.logs()}")
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self.lan.connect(self.ip, 22, 5).close()
                asked = ["systemctl", "is-system-running"]
                state = self.exec(asked, check=False, timeout=60).stdout.strip()
                # degraded: a unit failed, which is for the tests to judge
                if state in ("running", "degraded"):
                    return
            time.sleep(0.5)

    def reboot(self, seconds: float = 600) -> None:
        """A clean shutdown, and a boot: User-Mode Linux that boots again itself has no network."""
        self.exec(["systemctl", "--no-block", "poweroff"], check=False)
        if self._process is not None:
            self._process.wait(seconds)
        self.start(seconds)

    def crash(self) -> None:
        """A power cut: the kernel is gone at once, and all that it had not written to the disk."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def destroy(self) -> None:
        """Remove it, running or not."""
        self.crash()
        run("rm", "-rf", "--one-file-system", self.directory, seconds=300)

    # ------------------------------------------------------------------ inside

    def exec(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as root or another user."""
        words = ["env", *(f"{name}={value}" for name, value in (env or {}).items()), *argv]
        if user:
            words = ["runuser", "-u", user, "--", *words]
        return self.ssh("root", words, key=self.key, stdin=stdin, check=check, timeout=timeout)

    def begin(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Begin a program inside, as root, in a process group of its own."""
        return self.start_ssh("root", argv, key=self.key)

    def online(
        self, argv: Sequence[str], *, timeout: float = 3600
    ) -> subprocess.CompletedProcess[str]:
        """The same: a machine has a way out."""
        return self.exec(argv, timeout=timeout)

    def put(self, source: Path, target: str) -> None:
        """Copy a file or a directory into it."""
        pack = ["tar", "-c", "--exclude=__pycache__", "-C", str(source.parent), source.name]
        unpack = ["tar", "-x", "--no-same-owner", "-C", target]
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
            done = subprocess.run(
                self._ssh("root", unpack, self.key, tty=False), stdin=packed.stdout, check=False,
                timeout=600, capture_output=True, text=True,
            )  # fmt: skip
        if packed.returncode or done.returncode:
            raise BedError(f"{source} was not copied: {done.stderr}")

    def console(self) -> str:
        """What it printed on its console, over all boots."""
        return (self.directory / "console.log").read_text(errors="replace")

    def journal(self, *arguments: str, lines: int = 60) -> str:
        """`journalctl`, while it is on."""
        if not self.is_on:
            return ""
        words = ["journalctl", "--quiet", "--no-pager", f"--lines={lines}", *arguments]
        return self.exec(words, check=False, timeout=120).stdout

    def logs(self) -> str:
        """What a person wants to see when something went wrong."""
        shown = f"--- console of {self.name}\n{self.console()[-3000:]}\n"
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            shown += f"--- journal of {self.name}\n{self.journal()}"
        return shown
