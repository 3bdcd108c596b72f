"""Keeps a box running: `python -m tests.server.supervisor DIRECTORY PARENT`.

A process of its own for each box. It boots the box again when the box reboots, and ends when the
box is off. When the process that started it is gone, it ends the box and clears away all that is
left of that process' bed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.server import cgroups
from tests.server.processes import pid1_of
from tests.server.remains import Spec, sweep

REBOOT = 133  # the exit status by which nspawn says that the box wants to be booted again


def supervise(directory: Path, parent: int) -> None:
    """Run the box until it is off, or until `parent` is gone."""
    spec = Spec.read(directory)
    try:
        watched = os.pidfd_open(parent)
    except ProcessLookupError:
        return sweep()
    if os.getppid() != parent:  # the number may belong to another process by now
        return sweep()
    with (directory / "console.log").open("a") as console:
        status: int | None = REBOOT
        while status == REBOOT:
            console.write(f"=== boot {time.strftime('%T')}\n")
            console.flush()
            cgroups.make(spec.groups)
            status = _boot(directory, spec, watched, console.fileno())
            console.write(f"=== exit {status} {time.strftime('%T')}\n")
            console.flush()
            # also ends what is left when nspawn was killed; nothing may go on in the next boot
            cgroups.remove(spec.groups)
    return sweep() if status is None else None


def _boot(directory: Path, spec: Spec, parent: int, console: int) -> int | None:
    """The exit status of nspawn; None when the parent was gone first."""
    nspawn = subprocess.Popen(
        _command(directory, spec),
        stdin=subprocess.DEVNULL, stdout=console, stderr=console,
        # /tmp is on the disk, as on a server
        env=os.environ | {"SYSTEMD_NSPAWN_TMPFS_TMP": "0"},
        # safe: there is only one thread
        preexec_fn=lambda: cgroups.enter(spec.groups),  # noqa: PLW1509
    )  # fmt: skip
    ended = os.pidfd_open(nspawn.pid)
    try:
        poll = select.poll()
        for descriptor in (ended, parent):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
    finally:
        os.close(ended)
    if ended in ready:
        return nspawn.wait()
    if (pid := pid1_of(nspawn.pid)) is not None:
        os.kill(pid, signal.SIGKILL)  # the kernel ends everything else in the box with it
        with contextlib.suppress(subprocess.TimeoutExpired):
            nspawn.wait(30)
    nspawn.kill()
    nspawn.wait()
    return None


def _command(directory: Path, spec: Spec) -> list[str]:
    return [
        # Without its supervisor the box is powered off. With KILL it would go on without nspawn.
        "setpriv", "--pdeathsig", "TERM",
        # nspawn's own --network-namespace-path does not do
        "nsenter", f"--net=/run/netns/{spec.namespace}",
        "systemd-nspawn", "--quiet", "--settings=no",
        # there need not be a systemd on the host
        "--register=no", "--keep-unit",
        "--link-journal=no", "--timezone=off", "--resolv-conf=off", "--private-users=no",
        f"--directory={directory / 'root'}",
        f"--machine={spec.machine}", f"--hostname={spec.name}",
        # what units of a server use: IPAddressDeny=, SystemCallFilter= …
        "--capability=CAP_NET_ADMIN,CAP_BPF,CAP_PERFMON", "--system-call-filter=bpf",
        "--kill-signal=SIGRTMIN+3", "--console=read-only",
        "/sbin/box-init",
    ]  # fmt: skip


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), int(sys.argv[2]))
