"""`gatling …` in processes forked from one that has already loaded everything.

A command spends most of its time loading modules, and tests run thousands of them. Each still runs
in a process of its own. Run as a script, this file is the process that forks them:
`python -I warm.py FD`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NOT_LOADED = ("gatling.__main__", "gatling.platform.embedded.logsink")
"""Modules that run when they are imported, or that only supervisord loads."""


CLIENT = """\
#!{python} -IS
import json, os, socket, sys

request = {{"arguments": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}}
asked = os.memfd_create("asked")
os.write(asked, json.dumps(request).encode())
os.lseek(asked, 0, os.SEEK_SET)
status, its_status = os.pipe()
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({path!r})
    socket.send_fds(connection, [b"."], [asked, 0, 1, 2, its_status])
os.close(its_status)
with os.fdopen(status) as said:
    sys.exit(int(said.read().split()[1]))
"""
"""A `gatling` that has a command run by a `Warm`, for shells that tests start."""


class Warm:
    """Runs commands. Threads may share it.

    `before` is the beginning of the command line that starts it: a program that changes its user.
    """

    def __init__(self, before: Sequence[str] = ()) -> None:
        self._socket, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [*before, sys.executable, "-I", __file__, str(its.fileno())],
                pass_fds=[its.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._lock = threading.Lock()
        atexit.register(self.close)

    @contextlib.contextmanager
    def command(self, directory: Path) -> Iterator[None]:
        """Have a program `gatling` in a directory, whose commands are run like those of `run`."""
        path = directory / "warm"
        program = directory / "gatling"
        program.write_text(CLIENT.format(python=sys.executable, path=str(path)))
        program.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            thread = threading.Thread(target=self._pass_on, args=[listener])
            thread.start()
            try:
                yield
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _pass_on(self, listener: socket.socket) -> None:
        """Have the commands run that programs of `command` send, until the listener is closed."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                _, files, _, _ = socket.recv_fds(connection, 1, 5)
                with self._lock:
                    socket.send_fds(self._socket, [b"."], files)
            for fd in files:
                os.close(fd)

    def close(self) -> None:
        """End the process that forks."""
        self._socket.close()
        self._process.wait(10)

    def run(
        self,
        arguments: Sequence[str],
        *,
        env: dict[str, str],
        stdin: str | None = None,
        stderr: int = subprocess.STDOUT,
        timeout: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        """Run `gatling ARGUMENTS` the way `subprocess.run` does; the output is captured as text."""
        request = json.dumps({"arguments": list(arguments), "env": env, "cwd": os.getcwd()})  # noqa: PTH109
        output, its_output = os.pipe()
        status, its_status = os.pipe()
        asked, given = _memory(request), _memory(stdin or "")
        files = [asked, 0 if stdin is None else given, its_output,
                 its_output if stderr == subprocess.STDOUT else stderr, its_status]  # fmt: skip
        try:
            with self._lock:
                socket.send_fds(self._socket, [b"."], files)
        finally:
            for fd in (asked, given, its_output, its_status):
                os.close(fd)
        read = {output: b"", status: b""}
        try:
            _read(read, time.monotonic() + timeout)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(read[status].split()[0]), signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(arguments), timeout, read[output]) from None
        finally:
            os.close(output)
            os.close(status)
        code = int(read[status].split()[1])
        text = read[output].decode().replace("\r\n", "\n").replace("\r", "\n")
        return subprocess.CompletedProcess(list(arguments), code, text)


def _memory(text: str) -> int:
    """A file in memory that holds a text, to be read from its beginning."""
    fd = os.memfd_create("given")
    with os.fdopen(os.dup(fd), "w") as file:
        file.write(text)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _read(into: dict[int, bytes], deadline: float) -> None:
    """Read files to their ends; TimeoutError when that takes too long."""
    with selectors.DefaultSelector() as selector:
        for fd in into:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                piece = os.read(key.fd, 65536)
                into[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)


# ---------------------------------------------------------------- in the process that forks


def _serve(connection: socket.socket) -> bool:
    """Fork a process for each request; True in that process, False when there are no more."""
    import gatling

    for module in pkgutil.walk_packages(gatling.__path__, "gatling."):
        if module.name not in NOT_LOADED:
            importlib.import_module(module.name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        _, files, _, _ = socket.recv_fds(connection, 1, 5)
        if not files:
            return False
        if os.fork() == 0:
            connection.close()
            return _become(*files)
        for fd in files:
            os.close(fd)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _become(asked: int, stdin: int, stdout: int, stderr: int, status: int) -> bool:
    """Become the process of a command; another one waits and reports how it ended."""
    pid = os.fork()
    if pid:
        for fd in (asked, stdin, stdout, stderr):
            os.close(fd)
        os.write(status, f"{pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(status, f"{code}\n".encode())
        os._exit(0)
    os.close(status)
    with os.fdopen(asked) as file:
        request: dict[str, Any] = json.load(file)
    for number, fd in enumerate((stdin, stdout, stderr)):
        os.dup2(fd, number)
        os.close(fd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.chdir(request["cwd"])
    sys.argv = ["gatling", *request["arguments"]]
    return True


def _run() -> int:
    """Run the command; its exit status."""
    from gatling.__main__ import main

    try:
        main()
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        print(leaving.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001 (what Python does)
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        forked = _serve(requests)
    if forked:
        ended = _run()
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended)  # taking all modules apart would take longer than most commands
