"""Each request to root's helper has a process of its own, and none harms the one that listens."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.platform.server import helper, units
from gatling.platform.server.helper import service
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(str(service.__file__)).parents[4]
SERVES = """
    import os, signal, socket, sys, time
    sys.path.append(SOURCE)
    from gatling.platform.server.helper import serving

    loaded = []

    def answer(connection):
        word = connection.recv(100).decode()
        print("began", word, flush=True)
        if word == "pid":
            connection.sendall(f"{os.getpid()} {os.getppid()} {len(loaded)}".encode())
        elif word == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif word == "exit":
            sys.exit(7)
        elif word == "files":
            places = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            held = [os.readlink(place) for place in places if os.path.islink(place)]
            connection.sendall("\\n".join(held).encode())
        elif word == "wait":
            connection.recv(1)
            connection.sendall(b"waited")

    serving.serve(serving.passed(), answer, lambda: loaded.append(1), idle_seconds=IDLE, most=3)
    print("idle", flush=True)
"""


class Serving:
    """The helper's loop with answers for tests, with a socket that is passed as systemd does."""

    def __init__(self, place: Path, idle_seconds: float) -> None:
        self.path = str(place / "s")
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen()
        script = textwrap.dedent(SERVES).replace("SOURCE", repr(str(SOURCE)))
        passed = self.listening.fileno()
        code = f"import os; os.dup2({passed}, 3); os.close({passed})\n" + script.replace(
            "IDLE", str(idle_seconds)
        )
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code], pass_fds=[passed],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def close(self) -> tuple[str, str]:
        """End it; what it has printed."""
        self.listening.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # with what still answers
        return self.process.communicate()

    def begin(self, word: str) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(60)
        client.connect(self.path)
        client.sendall(word.encode())
        return client

    def ask(self, word: str) -> str:
        with self.begin(word) as client:
            return end(client)


def end(client: socket.socket) -> str:
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts).decode()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    loop = Serving(tmp_path, 600)
    yield loop
    loop.close()


def test_each_request_has_a_process_of_its_own(serving: Serving) -> None:
    answers = [serving.ask("pid").split() for _ in range(3)]
    assert len({pid for pid, _, _ in answers}) == 3
    assert {parent for _, parent, _ in answers} == {str(serving.process.pid)}
    # what waits already is not kept waiting by what later requests need
    assert [loaded for _, _, loaded in answers][1:] == ["1", "1"]


def test_one_that_crashes_ends_alone(serving: Serving) -> None:
    with serving.begin("wait") as waiting:
        for word in ("crash", "exit"):
            assert serving.ask(word) == ""
        assert serving.ask("pid").split()[1] == str(serving.process.pid)
        waiting.sendall(b"x")
        assert end(waiting) == "waited"


def test_too_many_wait_until_one_has_ended(serving: Serving) -> None:
    waiting = [serving.begin("wait") for _ in range(3)]
    until(lambda: len(children(serving)) == 3, "all of them")
    with serving.begin("pid") as one_more:
        one_more.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one_more.recv(1)
        one_more.settimeout(60)
        waiting[0].sendall(b"x")
        assert end(waiting[0]) == "waited"
        assert end(one_more).split()[1] == str(serving.process.pid)
    for client in waiting[1:]:
        client.sendall(b"x")
        assert end(client) == "waited"
    for client in waiting:
        client.close()


def children(serving: Serving) -> list[str]:
    pid = serving.process.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_request_has_no_file_of_others(serving: Serving) -> None:
    with serving.begin("wait"):
        held = serving.ask("files").splitlines()
    assert len([name for name in held if name.startswith("socket:")]) == 1
    assert not [name for name in held if "pidfd" in name]


def test_it_ends_when_none_comes_and_none_is_under_way(tmp_path: Path) -> None:
    loop = Serving(tmp_path, 0.05)
    with loop.begin("wait") as waiting:
        assert loop.process.stdout is not None
        assert loop.process.stdout.readline() == "began wait\n"
        with pytest.raises(subprocess.TimeoutExpired):
            loop.process.wait(0.5)
        waiting.sendall(b"x")
        assert end(waiting) == "waited"
    assert loop.process.wait(60) == 0
    assert loop.close() == ("idle\n", "")


def test_requests_go_on_when_the_one_that_listens_is_stopped(serving: Serving) -> None:
    """As a newer version of Gatling does."""
    with serving.begin("wait") as waiting:
        assert serving.process.stdout is not None
        assert serving.process.stdout.readline() == "began wait\n"
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(60) == -signal.SIGTERM
        waiting.sendall(b"x")
        assert end(waiting) == "waited"


def test_all_that_verbs_need_is_loaded_beforehand() -> None:
    script = (
        f"import sys; sys.path.append({str(SOURCE)!r})\n"
        "from gatling.platform.server.helper import service\n"
        "service.load()\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], check=True, capture_output=True, text=True
    )
    loaded = set(done.stdout.split())
    directory = Path(str(helper.__file__)).parent
    assert {
        f"gatling.platform.server.helper.{file.stem}" for file in directory.glob("[!_]*.py")
    } <= loaded
    assert not loaded & {"click", "cryptography"}


def test_the_units() -> None:
    text = units.helper_service(Path("/x"))
    assert "\nKillMode=process\n" in text
    assert "Accept" not in units.helper_socket()
    assert re.search(r"^ExecStart=.* /x logs$", units.logs_service(Path("/x")), re.MULTILINE)
    assert "\nAccept=yes\nMaxConnections=5\n" in units.logs_socket(5)
