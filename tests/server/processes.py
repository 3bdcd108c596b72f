"""Finding the processes of a box, from the host."""

from __future__ import annotations

from pathlib import Path


def nspawn_of(supervisor: int) -> int | None:
    """The systemd-nspawn that a supervisor runs."""
    return next((pid for pid in _children(supervisor) if _name(pid) == "systemd-nspawn"), None)


def pid1_of(nspawn: int) -> int | None:
    """The PID 1 of a box, as the host knows it, once it is systemd."""
    # Before, nspawn has children that are still on the host's side of some namespaces: what is run
    # in those would be run on the host.
    return next((p for p in _children(nspawn) if _is_pid1(p) and _name(p) == "systemd"), None)


def _children(pid: int) -> list[int]:
    return [int(word) for word in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _name(pid: int) -> str:
    return _read(f"/proc/{pid}/comm").strip()


def _is_pid1(pid: int) -> bool:
    lines = _read(f"/proc/{pid}/status").splitlines()
    numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # gone
        return ""
