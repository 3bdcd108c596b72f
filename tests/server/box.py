"""A box: a real Debian server, booted with systemd as PID 1, for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conftest import until
from tests.server import cgroups, network, remains
from tests.server.host import ROOT, BedError, is_mounted, run
from tests.server.image import seal
from tests.server.processes import nspawn_of, pid1_of
from tests.server.reached import Reached

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.server.bed import Bed
    from tests.server.image import Image

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd")
# of the host, for what is run with the host's network
LENT = (
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT",
)  # fmt: skip


@dataclass(frozen=True)
class User:
    """A user of a box, and its home in the box."""

    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class Memory:
    """Bytes used by all of a box; `rss` is without caches, `peak` the most that was used."""

    used: int
    rss: int
    peak: int


class Box(Reached):
    """A server. `Bed.box` makes one."""

    def __init__(
        self, bed: Bed, name: str, number: int, image: Image, *, gives_layer: bool
    ) -> None:
        self.bed, self.name, self.number, self.image = bed, name, number, image
        self.lan, self.ssh_config = bed.lan, bed.ssh_config
        self.ip = network.address(number)
        self.directory = bed.directory / name
        self.root = self.directory / "root"
        machine = f"{bed.name}-{name}"
        self.spec = remains.Spec(
            name, machine, bed.lan.namespace(number), tuple(map(str, cgroups.groups(machine)))
        )
        self._gives_layer = gives_layer
        self._supervisor: subprocess.Popen[bytes] | None = None

    # ------------------------------------------------------------------ its life

    def create(self) -> None:
        """Make its disk and its network."""
        self.root.mkdir(parents=True)
        self.spec.write(self.directory)
        remains.make_disk(self.directory, self.spec, moved=self._gives_layer)
        for part in ("upper", "work"):
            (self.directory / remains.DISK / part).mkdir()
        (self.directory / "console.log").touch()
        self._mount()
        etc = self.root / "etc"
        for file in (etc / "ssh").glob("ssh_host_*"):
            file.unlink()
        key = etc / "ssh/ssh_host_ed25519_key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{self.name}", "-f", key)
        (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        (etc / "hostname").write_text(f"{self.name}\n")
        # apt waits 7 s for each thing that it cannot fetch, and a box has no network
        (etc / "apt/apt.conf.d/95box").write_text('Acquire::Retries::Delay "false";\n')
        (etc / "resolv.conf").unlink(missing_ok=True)
        shutil.copy("/etc/resolv.conf", etc / "resolv.conf")  # only `online` gets an answer
        self.bed.lan.plug_in(self.number)

    def up(self, seconds: float = 120) -> Box:
        """Boot for the first time."""
        self.start(seconds)
        return self

    def start(self, seconds: float | None = 120) -> None:
        """Boot, with the disk as it is, and wait until it is usable (with None, do not)."""
        if self.is_on:
            raise BedError(f"{self.name} is on")
        cgroups.remove(self.spec.groups)  # there are some if its supervisor was killed
        with (self.directory / "supervisor.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "tests.server.supervisor",
                 str(self.directory), str(os.getpid())],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        if seconds is not None:
            self.wait_ready(seconds)

    def wait_ready(self, seconds: float = 120, *, after: int | None = None) -> None:
        """Wait until it is booted and ssh answers; with `after`, with another PID 1 than that."""
        deadline = time.monotonic() + seconds
        state = "not begun"
        while True:
            if not self.is_on:
                raise BedError(f"{self.name} ended while booting ({state})\n{self.logs()}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise BedError(f"{self.name}: {state} after {seconds} s\n{self.logs()}")
            pid = self.pid1()
            if pid is not None and pid != after:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    # until then: to ask again and again took a quarter of the CPU of a boot
                    words = ["systemctl", "is-system-running", "--wait"]
                    state = self.exec(words, check=False, timeout=left).stdout.strip()
                # degraded: a unit failed, which is for the tests to judge
                if state in ("running", "degraded") and self._answers(22):
                    return
            time.sleep(0.1)  # not even D-Bus runs

    def stop(self, seconds: float = 120) -> None:
        """Power off, cleanly."""
        if (nspawn := self._nspawn()) is None:
            raise BedError(f"{self.name} is not on")
        os.kill(nspawn, signal.SIGTERM)
        self._wait_off(seconds)

    def reboot(self, seconds: float = 120) -> None:
        """`systemctl reboot`, until it is usable again."""
        before = self.pid1()
        self.exec(["systemctl", "--no-block", "reboot"])
        self.wait_ready(seconds, after=before)

    def crash(self) -> None:
        """A power cut: everything is gone at once.

        Two things differ: what was written to files is not lost, synced or not; and others see
        their connections closed, where they would see nothing at all (`unplug` before for that).
        """
        if (pid := self.pid1() or self._nspawn()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # of a PID 1: the kernel ends all the others with it
        self._wait_off(60)

    def destroy(self) -> None:
        """Remove it, running or not."""
        if self._supervisor is not None:
            with contextlib.suppress(BedError):
                self.crash()
            self._supervisor.kill()  # if there was an error
            self._supervisor.wait()
        remains.remove_box(self.directory)
        self.bed.lan.ip("link", "del", f"p{self.number}", check=False)
        self.bed.forget(self)

    def give_layer(self) -> Path:
        """The directory with all changes of its disk; the box can only be destroyed then."""
        if self.is_on:
            raise BedError(f"{self.name} is on")
        seal(self.root)
        remains.unmount(self.root)
        run("sync", "--file-system", self.directory)  # which the mount has not done
        return self.directory / remains.DISK / "upper"

    @property
    def is_on(self) -> bool:
        """Whether it runs, or boots, or shuts down."""
        return self._supervisor is not None and self._supervisor.poll() is None

    def _mount(self) -> None:
        lower = ":".join(map(str, self.image.layers))
        disk = (self.directory / remains.DISK).resolve()
        upper, work = disk / "upper", disk / "work"
        # volatile: nothing waits for the host's disk. A sync in a box guards nothing, since `crash`
        # loses no file; tests/machines cut the power of real machines.
        options = f"lowerdir={lower},upperdir={upper},workdir={work},volatile"
        if not is_mounted(self.root):
            run("mount", "-t", "overlay", self.spec.machine, "-o", options, self.root)

    def _wait_off(self, seconds: float) -> None:
        if self._supervisor is None:
            return
        try:
            status = self._supervisor.wait(seconds)
        except subprocess.TimeoutExpired:
            raise BedError(f"{self.name} is not off after {seconds} s\n{self.logs()}") from None
        if status != 0:
            raise BedError(f"{self.name}: its supervisor failed\n{self.logs()}")

    def _nspawn(self) -> int | None:
        return nspawn_of(self._supervisor.pid) if self._supervisor and self.is_on else None

    def pid1(self) -> int | None:
        """Its PID 1, as the host knows it, once it is systemd."""
        nspawn = self._nspawn()
        return pid1_of(nspawn) if nspawn else None

    # ------------------------------------------------------------------ inside

    def exec(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside, without ssh, as root or another user."""
        command = self._enter(argv, user, env, online=False)
        return run(*command, check=check, seconds=timeout, stdin=stdin)

    def begin(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Begin a program inside, as root, in a process group of its own."""
        command = self._enter(argv, None, None, online=False)
        return subprocess.Popen(
            command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def online(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """The same with the host's network: apt, pip. Services it starts have the box's own."""
        lent = {name: os.environ[name] for name in LENT if name in os.environ}
        command = self._enter(argv, user, lent | (env or {}), online=True)
        return run(*command, check=check, seconds=timeout, stdin=stdin)

    def _enter(
        self, argv: Sequence[str], user: str | None, env: dict[str, str] | None, *, online: bool
    ) -> list[str]:
        if (pid := self.pid1()) is None:
            raise BedError(f"{self.name} is not on\n{self.logs()}")
        name = user or "root"
        variables = {"PATH": PATH, "LANG": "C.UTF-8", "TERM": "dumb", "HOME": self.user(name).home,
                     "USER": name, "LOGNAME": name} | (env or {})  # fmt: skip
        return [
            "nsenter", f"--target={pid}", *NAMESPACES, *([] if online else ["--net"]),
            "env", "-i", *(f"{key}={value}" for key, value in variables.items()),
            *(["runuser", "-u", user, "--"] if user else []),
            *argv,
        ]  # fmt: skip

    def user(self, name: str) -> User:
        """A user of the box; KeyError when there is none."""
        for line in (self.root / "etc/passwd").read_text().splitlines():
            known, _, uid, gid, _, home, _ = line.split(":")
            if known == name:
                return User(int(uid), int(gid), home)
        raise KeyError(name)

    def put(self, source: Path, target: str) -> None:
        """Copy a file or a directory into a directory of the box."""
        place = self.root / target.lstrip("/") / source.name
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)

    def authorize(self, user: str, public_key: str) -> None:
        """Let a user log in by ssh with a key, besides those that may already."""
        entry = self.user(user)
        directory = self.root / entry.home.lstrip("/") / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        file = directory / "authorized_keys"
        with file.open("a") as keys:
            keys.write(f"{public_key.strip()}\n")
        file.chmod(0o600)
        for path in (directory, file):
            os.chown(path, entry.uid, entry.gid)

    def memory(self) -> Memory:
        """What all of it uses now."""
        group = next(path for path in self.spec.groups if (path / "memory.stat").exists())
        if (group / "memory.current").exists():  # version 2
            used, peak, key = "memory.current", "memory.peak", "anon"
        else:
            used, peak, key = "memory.usage_in_bytes", "memory.max_usage_in_bytes", "total_rss"
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return Memory(
            int((group / used).read_text()), int(stat[key]), int((group / peak).read_text())
        )

    def console(self) -> str:
        """What it printed on its console, over all boots."""
        return (self.directory / "console.log").read_text(errors="replace")

    def journal(self, *arguments: str, lines: int = 60) -> str:
        """`journalctl`, also when it is off."""
        done = run(
            "chroot", self.root, "journalctl", "--directory=/var/log/journal", "--quiet",
            "--no-pager", f"--lines={lines}", *arguments, check=False, seconds=30,
        )  # fmt: skip
        return done.stdout + done.stderr

    def logs(self) -> str:
        """What a person wants to see when something went wrong."""
        supervisor = (self.directory / "supervisor.log").read_text(errors="replace")
        return (
            f"--- console of {self.name}\n{self.console()[-3000:]}\n{supervisor[-3000:]}\n"
            f"--- journal of {self.name}\n{self.journal()}"
        )

    # ------------------------------------------------------------------ over the network

    def unplug(self) -> None:
        """Cut its network cable."""
        self.bed.lan.ip("link", "set", f"p{self.number}", "down")

    def plug(self) -> None:
        """And put it back."""
        self.bed.lan.ip("link", "set", f"p{self.number}", "up")
        until(lambda: not self.is_on or self._answers(22), f"{self.name} on the network again", 60)

    def _answers(self, port: int) -> bool:
        try:
            self.bed.lan.connect(self.ip, port, 5).close()
        except OSError:
            return False
        return True
