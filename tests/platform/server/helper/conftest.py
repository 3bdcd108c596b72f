"""root's helper in a directory of its own, with a record of what it would have run."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pwd
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from gatling.platform.server.helper import (
    firewall,
    machine,
    namespaces,
    nginx,
    running,
    service,
    unit_files,
)

if TYPE_CHECKING:
    from pathlib import Path


class UsersKnown:
    """The module pwd, with users of its own; useradd makes some, userdel removes them."""

    struct_passwd = pwd.struct_passwd

    def __init__(self) -> None:
        self.known = {"gatling": "Gatling", "gatling-taken": "Somebody else"}

    def getpwnam(self, name: str) -> pwd.struct_passwd:
        ids = (os.getuid(), os.getgid())
        return pwd.struct_passwd((name, "x", *ids, self.known[name], "/home", "/bin/sh"))


@dataclass
class Helper:
    """The helper; everything that it knows is below `root`."""

    root: Path
    users: UsersKnown = field(default_factory=UsersKnown)
    calls: list[list[str]] = field(default_factory=list)
    programs: list[dict[str, Any]] = field(default_factory=list)
    attended: list[list[str]] = field(default_factory=list)
    came: list[int] = field(default_factory=list)

    @property
    def server(self) -> Path:
        return self.root / "server"

    @property
    def units(self) -> Path:
        return self.root / "units"

    def forget(self) -> None:
        """What was recorded."""
        for record in (self.calls, self.programs, self.attended):
            record.clear()

    def files(self) -> dict[str, tuple[int, int]]:
        """Everything that is there, with size and time."""
        found = {}
        for path in self.root.rglob("*"):
            info = path.lstat()
            found[str(path.relative_to(self.root))] = (info.st_size, info.st_mtime_ns)
        return found

    def ask(self, request: Any, files: int = 3) -> Any:
        """Its answer to a request, as JSON over a socket."""
        return self.send(json.dumps(request).encode(), files)

    def send(self, payload: bytes, files: int = 3) -> Any:
        ours, its = socket.socketpair()
        with ours, its, contextlib.ExitStack() as stack:
            opened = [os.open(os.devnull, os.O_RDWR) for _ in range(files)]
            for fd in opened:
                stack.callback(os.close, fd)
            socket.send_fds(ours, [struct.pack("!I", len(payload))], opened)
            sending = threading.Thread(target=ours.sendall, args=(payload,))
            sending.start()
            service.answer(its.dup(), service.VERBS)
            sending.join()
            for fd in self.came:
                os.close(fd)
            its.shutdown(socket.SHUT_WR)
            its.close()
            answer = b""
            while piece := ours.recv(65536):
                answer += piece
        return json.loads(answer)

    # what takes the place of the helper's own

    def call(self, argv: list[str], *, check: bool = True, timeout: float = 120) -> str:
        assert isinstance(check, bool)
        assert 0 <= timeout <= 3600
        self.calls.append(argv)
        if argv[0] == "useradd":
            self.users.known[argv[-1]] = argv[argv.index("--comment") + 1]
        if argv[0] == "userdel":
            self.users.known.pop(argv[-1], None)
        return ""

    def run(
        self, unit: str, properties: list[str], program: dict[str, Any], files: list[int],
        _: socket.socket, *, terminal: bool = False, on_gone: str,
    ) -> dict[str, Any]:  # fmt: skip
        assert len(files) == 3
        self.programs.append(
            {"unit": unit, "properties": properties, "program": program, "terminal": terminal,
             "on_gone": on_gone}
        )  # fmt: skip
        return self.ended(files)

    def attend(
        self, argv: list[str], files: list[int], _: socket.socket, *, on_gone: str
    ) -> dict[str, Any]:
        assert on_gone == running.STOP
        self.attended.append(argv)
        return self.ended(files)

    @staticmethod
    def ended(files: list[int]) -> dict[str, Any]:
        for fd in files:
            os.close(fd)
        files.clear()
        return {"status": 0}


@pytest.fixture
def helper(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Helper:
    made = Helper(tmp_path)
    for path in (made.server / "apps", made.server / "instances", made.units):
        path.mkdir(parents=True)
    monkeypatch.setattr(machine, "SERVER", made.server)
    monkeypatch.setattr(machine, "UNITS", made.units)
    (tmp_path / "journald").mkdir()
    monkeypatch.setattr(namespaces, "CONFIGURATIONS", tmp_path / "journald")
    monkeypatch.setattr(namespaces, "JOURNALS", (tmp_path / "journals",))
    monkeypatch.setattr(unit_files, "UNTOLD", tmp_path_factory.mktemp("run") / "units")
    monkeypatch.setattr(machine, "pwd", made.users)
    monkeypatch.setattr(machine, "call", made.call)
    monkeypatch.setattr(firewall, "pwd", made.users)
    monkeypatch.setattr(firewall, "FILE", tmp_path / "ports.nft")
    log = tmp_path / "nginx" / "gatling-requests"
    write = functools.partial(nginx.write, directory=tmp_path / "nginx", log=log)
    monkeypatch.setattr(nginx, "write", write)
    monkeypatch.setattr(nginx, "rotate", functools.partial(nginx.rotate, log=log))
    received = service._received

    def _received(connection: socket.socket, files: list[int]) -> dict[str, Any]:
        made.came = files
        return received(connection, files)

    monkeypatch.setattr(service, "_received", _received)
    monkeypatch.setattr(running, "run", made.run)
    monkeypatch.setattr(running, "attend", made.attend)
    return made
