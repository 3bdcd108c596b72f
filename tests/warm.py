"""`gatling …` in processes forked from one that has already loaded everything.

A command spends most of its time loading modules, and tests run thousands of them. Each still runs
in a process of its own, whose command line and environment are those of a real one. So do the hooks
of pushes, and the commands that watch a release in the background.

Run as a script, this file is the process that forks them: `python -I warm.py FD ROOM`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import marshal
import os
import pkgutil
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOT_LOADED = (
    "gatling.__main__", "gatling.platform.embedded.logsink",
    "gatling.deploy.cluster", "gatling.operations.cluster", "gatling.platform.kubernetes.",
    "gatling.runtime.pods",
)  # fmt: skip
"""How modules begin that run when they are imported, that only supervisord loads, or that only
commands on clusters load: a fork takes longer the more memory there is, and those bring a quarter.
"""

WORKER = "gatling.api.worker"
ROOM = 400
"""Bytes that a forked process has for its command line."""
CLIENT = """\
#!{python} -IS
import _socket, marshal, os, sys

arguments, environment = sys.argv[1:], dict(os.environ)
if sys.argv[0].endswith("pre-receive"):
    arguments = ["receive", os.path.basename(os.getcwd()).removesuffix(".git")]
    environment["GIT_CONFIG_GLOBAL"] = "/dev/null"
request = {{"arguments": arguments, "env": environment, "cwd": os.getcwd(), "parent": os.getppid()}}
asked = os.memfd_create("asked")
os.write(asked, marshal.dumps(request))
os.lseek(asked, 0, os.SEEK_SET)
status, its_status = os.pipe()
files = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (asked, 0, 1, 2, its_status))
connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
connection.connect({path!r})
connection.sendmsg([b"."], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
os.close(its_status)
with os.fdopen(status) as said:
    code = int(said.read().split()[1])
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
"""A program that has a command run by a `Warm`: `gatling`, or git's hook of an app's repository."""


class Warm:
    """Runs commands. Threads may share it.

    `before` is the beginning of the command line that starts it: a program that changes its user.
    """

    def __init__(self, before: Sequence[str] = ()) -> None:
        self._socket, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [*before, sys.executable, "-I", __file__, str(its.fileno()), " " * ROOM],
                pass_fds=[its.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._lock = threading.Lock()
        atexit.register(self.close)

    @functools.cached_property
    def directory(self) -> Path:
        """Has a program `gatling` whose commands are run like those of `run`, for a shell's PATH.

        With its file `gitconfig` as git's own, a push to an app of a home is received likewise.
        """
        return Path(self._socket.recv(4096).decode())

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
        request = _request(arguments, env, os.getcwd())  # noqa: PTH109
        output, its_output = os.pipe()
        status, its_status = os.pipe()
        asked, given = _memory(request), _memory((stdin or "").encode())
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


def fork_changes(place: str) -> None:
    """Have the processes forked in which a server of the API, this process, carries out changes.

    `place` is the socket in `Warm.directory`.
    """
    from gatling import process

    all_others = process.output

    def output(argv: Sequence[str], **how: Any) -> str:
        if argv[-1] != WORKER:
            return all_others(argv, **how)
        asked = _memory(_request([], how["env"], str(how["cwd"]), WORKER))
        given = _memory(how["stdin"].encode())
        answer, its_answer = os.pipe()
        ended, its_status = os.pipe()
        _ask(place, [asked, given, its_answer, 2, its_status])
        for fd in (asked, given, its_answer, its_status):
            os.close(fd)
        read = {answer: b"", ended: b""}
        _read(read, time.monotonic() + how["timeout"])
        os.close(answer)
        os.close(ended)
        return read[answer].decode()

    process.output = output


def _ask(place: str, files: list[int]) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [b"."], files)


def _request(
    arguments: Sequence[str], env: Mapping[str, str], cwd: str, module: str = "gatling.__main__"
) -> bytes:
    return marshal.dumps(
        {"arguments": list(arguments), "env": dict(env), "cwd": cwd, "module": module}
    )


def _memory(content: bytes) -> int:
    """A file in memory with this content, to be read from its beginning."""
    fd = os.memfd_create("given")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(content)
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


def _serve(connection: socket.socket, directory: Path) -> bool:
    """Fork a process for each request; True in that process, False when there are no more."""
    import gatling

    for module in pkgutil.walk_packages(gatling.__path__, "gatling."):
        if not module.name.startswith(NOT_LOADED):
            importlib.import_module(module.name)
    _share_builds()
    place = str(directory / "warm")
    _start_watching_commands(place)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, tuple[int, int]] = {}  # by pidfd: the process, and where its end is reported
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        _write_programs(directory, place)
        connection.send(str(directory).encode())
        poll = select.poll()
        for one in (connection, listener):
            poll.register(one, select.POLLIN)
        while True:
            for ready, _ in poll.poll():
                if ready in running:
                    poll.unregister(ready)
                    _report(ready, *running.pop(ready))
                    continue
                with contextlib.ExitStack() as own:
                    asking = ready == listener.fileno()
                    given = own.enter_context(listener.accept()[0]) if asking else connection
                    _, files, _, _ = socket.recv_fds(given, 1, 5)
                if not files:
                    return False
                asked, stdin, stdout, stderr, status = files
                pid = os.fork()
                if pid == 0:
                    for one in (connection, listener):
                        one.close()
                    for ended, (_, its_status) in running.items():
                        os.close(ended)
                        os.close(its_status)  # or who asked would wait for this process, too
                    os.close(status)
                    _become(asked, stdin, stdout, stderr)
                    return True
                for fd in (asked, stdin, stdout, stderr):
                    os.close(fd)
                with contextlib.suppress(BrokenPipeError):
                    os.write(status, f"{pid}\n".encode())
                ended = os.pidfd_open(pid)
                running[ended] = (pid, status)
                poll.register(ended, select.POLLIN)


def _report(ended: int, pid: int, status: int) -> None:
    """Report how a process has ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # nobody waits for the end
        os.write(status, f"{code}\n".encode())
    for fd in (ended, status):
        os.close(fd)


def _write_programs(directory: Path, place: str) -> None:
    """The files of `Warm.directory`."""
    hooks = directory / "hooks"
    hooks.mkdir()
    for program in (directory / "gatling", hooks / "pre-receive"):
        program.write_text(CLIENT.format(python=sys.executable, path=place))
        program.chmod(0o755)
    (directory / "gitconfig").write_text(f"[core]\n\thooksPath = {hooks}\n")


def _share_builds() -> None:
    """Have pushes take a release that the same build has made for another home."""
    sys.path.append(str(Path(__file__).parents[1]))
    from tests import builds

    sys.path.pop()
    builds.reuse()


def _start_watching_commands(place: str) -> None:
    """Have the commands forked, too, that a command starts to watch a release in the background."""
    from gatling import process

    start = process.start

    def forked(argv: Sequence[str], **how: Any) -> subprocess.Popen[bytes] | None:
        if argv[3] != "gatling" or argv[-1] != "--watch":
            return start(argv, **how)
        asked = _memory(_request(argv[4:], how["env"], str(how["cwd"])))
        ended, its_status = os.pipe()
        _ask(place, [asked, how["stdin"], how["output"], how["output"], its_status])
        for fd in (asked, its_status):
            os.close(fd)
        with os.fdopen(ended) as said:
            said.readline()  # it has started
        return None

    process.start = forked  # type: ignore[assignment]


def _become(asked: int, stdin: int, stdout: int, stderr: int) -> None:
    """Become the process of a command."""
    with os.fdopen(asked, "rb") as file:
        request: dict[str, Any] = marshal.load(file)  # noqa: S302 (of a test)
    for number, fd in enumerate((stdin, stdout, stderr)):
        os.dup2(fd, number)
        os.close(fd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.chdir(request["cwd"])
    sys.argv = [request.get("module", "gatling.__main__"), *request["arguments"]]
    _show(request["arguments"], request["env"])
    if "parent" in request:
        # whose end is the end of a push
        os.getppid = lambda: request["parent"]


def _show(arguments: Sequence[str], env: Mapping[str, str]) -> None:
    """Have the kernel show a command line and an environment, as far as there is room: proc(5)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    command_line, its_end, environment, its_own_end = map(int, fields[45:49])
    words = [sys.executable, "-I", "-m", "gatling", *arguments]
    _overwrite(command_line, its_end, words)
    _overwrite(environment, its_own_end, sorted(
        (f"{name}={value}" for name, value in env.items()),
        key=lambda text: not text.startswith("GATLING_"),
    ))  # fmt: skip


def _overwrite(begin: int, end: int, texts: Sequence[str]) -> None:
    raw = b"".join(os.fsencode(text) + b"\0" for text in texts)
    ctypes.memmove(begin, raw.ljust(end - begin, b"\0")[: end - begin - 1] + b"\0", end - begin)


def _run() -> int:
    """Run the command; its exit status."""
    module, sys.argv[0] = sys.argv[0], "gatling"
    try:
        importlib.import_module(module).main()
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
    programs = Path(tempfile.mkdtemp(prefix="gt-warm-"))
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        try:
            forked = _serve(requests, programs)
        except ConnectionError:  # the tests have ended and not asked for the directory
            forked = False
    if not forked:
        shutil.rmtree(programs)
    else:
        ended = _run()
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended)  # taking all modules apart would take longer than most commands
