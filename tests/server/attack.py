"""Run by a build (test_hostile_builds.py): tries what it must not, and prints what it got."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

OWN = json.loads(Path("target.json").read_text())
PID, PORTS, MARK = OWN["pid"], OWN["ports"], OWN["mark"]
ROOT = "/var/lib/gatling"
SHOP, BLOG = f"{ROOT}/apps/shop", f"{ROOT}/apps/blog"
MINE = (f"{SHOP}/build", f"{SHOP}/work", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue",
        "/run/gatling-instances/shop.1", "/run/gatling-instances/shop.2")  # fmt: skip
TALKED_TO = ("/run/systemd/journal/", "/run/systemd/notify", "/run/systemd/userdb/",
             "/run/systemd/io.system.", "/run/systemd/resolve/",
             "/run/systemd/journal.gatling-shop/")  # fmt: skip
"""Sockets for everybody, which trust nothing that is said there, and those of its own journal."""

READ = (
    "/etc/shadow", "/root", "/etc/ssh/ssh_host_ed25519_key", "/run/gatling", "/run/dbus",
    "/run/gatling/programs", f"{ROOT}/home", f"{ROOT}/home/state.db", f"{ROOT}/instances",
    f"{ROOT}/home/.ssh/authorized_keys", f"{ROOT}/instances/blog.1.json", f"{ROOT}/routes", BLOG,
    f"{BLOG}/git/HEAD", f"{BLOG}/releases/v1/releases/start_erl.data", f"{BLOG}/state",
    f"{BLOG}/build", f"{SHOP}/slots", f"{SHOP}/logs", "/dev/kmsg", "/run/gatling-instances",
    "/run/gatling-instances/blog.1/ends", "/run/gatling-instances/blog.1/end",
    "/proc/kcore", "/dev/mem", "/proc/1/environ", "/proc/1/root/etc", f"/proc/{PID}/environ",
    f"/proc/{PID}/cmdline", f"/proc/{PID}/root/etc", f"/proc/{PID}/maps", "/run/lock",
    "/run/credentials/gatling@blog.1.service/program",
)  # fmt: skip
WRITTEN = (
    "/etc/x", "/usr/x", "/usr/local/bin/gatling", f"{ROOT}/x", "/run/x", "/run/lock/x", "/home/x",
    "/etc/systemd/system/x.service", "/var/spool/cron/crontabs/root", f"{ROOT}/apps/x", f"{SHOP}/x",
    f"{SHOP}/git/hooks/pre-receive", f"{SHOP}/git/hooks/post-receive", f"{SHOP}/git/config",
    f"{SHOP}/releases/x", f"{SHOP}/releases/v1/releases/COOKIE", f"{ROOT}/routes/shop/1",
    f"{ROOT}/home/x", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/dev/kmsg",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)  # fmt: skip
LOGIN = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
RUN = (
    ("busctl", "call", *LOGIN, "SetUserLinger", "ubb", str(os.getuid()), "true", "false"),
    ("busctl", "list"), ("systemctl", "start", "gatling@blog.2.service"), ("systemctl", "status"),
    ("systemctl", "stop", "gatling@blog.1.service"), ("systemctl", "daemon-reload"),
    ("systemd-run", "--wait", "id"), ("systemd-run", "--user", "id"), ("su", "-c", "id"),
    ("loginctl", "enable-linger"), ("mount", "-t", "tmpfs", "x", "/mnt"), ("dmesg",),
    ("unshare", "--user", "id"), ("unshare", "--mount", "id"), ("unshare", "--net", "id"),
    ("crontab", "target.json"), ("chroot", "/", "id"), ("hostname", "x"), ("date", "-s", "12:00"),
    ("nsenter", "--target", "1", "--mount", "id"), ("renice", "-n", "-5", str(os.getpid())),
)  # fmt: skip


def attempt(name: str, act: Callable[[], object]) -> None:
    try:
        got = act()
    except (OSError, subprocess.SubprocessError) as error:
        print("SAFE", name, error)
    else:
        print("GOT" if got else "SAFE", name, repr(got)[:200])


def read(path: str) -> object:
    if Path(path).is_dir():
        return os.listdir(path)  # noqa: PTH208
    with Path(path).open("rb") as file:
        return file.read(50) or "empty"


def write(path: str) -> object:
    with Path(path).open("a") as file:
        return file.write("# written by a build\n")


def run(words: tuple[str, ...]) -> object:
    done = subprocess.run(
        words, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=60
    )
    return done.returncode == 0 and (done.stdout or "status 0")


def trace(request: int, pid: int) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(request, pid, 0, 0) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "done"


def did(act: Callable[[], object]) -> str:
    act()
    return "done"


def listen(port: int) -> object:
    with socket.create_server(("0.0.0.0", port)):  # noqa: S104
        return "listens"


def connect(path: str) -> object:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as opened:
            opened.settimeout(5)
            opened.connect(path)
            return "connected"
    return None


def link(path: str) -> object:
    os.link(path, "linked")
    Path("linked").unlink()
    return "linked"


def everything() -> None:
    """What in all of the system can be written to, and which sockets take connections."""
    for directory, below, files in os.walk("/"):
        if directory == "/":
            below[:] = [name for name in below if name not in ("proc", "sys")]
        if directory in MINE:
            below.clear()
            continue
        if os.access(directory, os.W_OK):
            print("GOT writable", directory)
        for name in files:
            path = f"{directory}/{name}"
            with contextlib.suppress(OSError):
                kind = stat.S_IFMT(os.lstat(path).st_mode)
                if kind == stat.S_IFREG and os.access(path, os.W_OK):
                    print("GOT writable", path)
                if kind == stat.S_IFSOCK and not path.startswith(TALKED_TO) and connect(path):
                    print("GOT socket", path)


def main() -> None:
    for path in READ:
        attempt(f"read {path}", lambda: read(path))
    for path in WRITTEN:
        attempt(f"write {path}", lambda: write(path))
    for path in ("/run/gatling/helper.sock", "/run/dbus/system_bus_socket", "/run/systemd/private"):
        attempt(f"connect {path}", lambda: connect(path))
    for words in RUN:
        attempt(" ".join(words), lambda: run(words))
    for pid in (1, PID):
        attempt(f"signal {pid}", lambda: did(lambda: os.kill(pid, signal.SIGCONT)))
        attempt(f"trace {pid}", lambda: trace(16, pid))  # PTRACE_ATTACH
    attempt("trace itself", lambda: trace(0, 0))  # PTRACE_TRACEME
    others = [entry for entry in Path("/proc").iterdir()
              if entry.name.isdecimal() and entry.stat().st_uid != os.getuid()]  # fmt: skip
    attempt("see processes of others", lambda: others)
    attempt("setuid", lambda: did(lambda: os.setuid(0)))
    attempt("setgroups", lambda: did(lambda: os.setgroups([0])))
    block = stat.S_IFBLK | 0o600
    attempt("mknod", lambda: did(lambda: os.mknod("device", block, os.makedev(8, 0))))
    own = Path("own")
    own.touch()
    attempt("chmod u+s", lambda: did(lambda: own.chmod(0o4755)))
    attempt("chmod g+s", lambda: did(lambda: own.chmod(0o2755)))
    attempt("chown", lambda: did(lambda: os.chown("own", 0, 0)))
    for path in (f"{SHOP}/releases/v1/releases/start_erl.data", f"{SHOP}/git/HEAD", "/etc/passwd",
                 "/usr/bin/su"):  # fmt: skip
        attempt(f"link {path}", lambda: link(path))
    for port in (22, 80, 443, 1023, *PORTS):
        attempt(f"listen {port}", lambda: listen(port))
    for family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW),
                         (socket.AF_VSOCK, socket.SOCK_STREAM)):  # fmt: skip
        attempt(f"socket {family!r}", lambda: did(socket.socket(family, kind).close))
    everything()
    text = Path("/proc/self/status").read_text()
    status = dict(line.split(":\t", 1) for line in text.splitlines())
    for key, wanted in (("CapEff", 0), ("CapBnd", 0), ("NoNewPrivs", 1), ("Seccomp", 2)):
        attempt(key, lambda: int(status[key], 16) != wanted)
    for directory in ("/tmp", "/var/tmp", "/dev/shm"):
        write(f"{directory}/{MARK}")
    print("DONE")


if __name__ == "__main__":
    main()
