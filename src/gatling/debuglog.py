"""The debug log: tracebacks of errors that nobody expected.

They go to `debug.log` in the home, which only its owner can read, so that a user sees one line and
the developer who looks for the cause finds the rest. A traceback has source lines and no values of
variables. With GATLING_DEBUG=1 in the environment tracebacks, and the programs that are run, are
printed as well.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import __version__, visible
from gatling.errors import DiskFull, GatlingError, Unexpected, is_full

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "GATLING_DEBUG"
NAME = "debug.log"
MAX_BYTES = 1 << 20
"""Size at which the log becomes debug.log.1, in place of the one before."""
MAX_ENTRY = 64 << 10
"""Characters of one traceback that are kept: its end, which says most."""
PACKAGE = f"{Path(__file__).parent}{os.sep}"

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET_OPTIONS = ("-setcookie", "--cookie")


def enabled() -> bool:
    """Whether GATLING_DEBUG asks for details."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def explained(error: Exception, doing: str = "this command") -> GatlingError:
    """Convert any error into one for the user; log it first unless it is Gatling's own.

    `doing` names what the error stopped, such as `the recovery of shop`.
    """
    if isinstance(error, GatlingError):
        if enabled():
            _print(_text(error))
        return error
    file = write(doing, error)
    if isinstance(error, OSError) and is_full(error):
        return DiskFull(f"No space is left on the disk{_named(error, ': ')}.")
    hint = f"The details are in {file}." if file else f"{VARIABLE}=1 shows the details."
    if isinstance(error, MemoryError):
        return Unexpected(f"There was not enough memory for {doing}.", hint=hint)
    if isinstance(error, OSError) and error.strerror:
        return Unexpected(f"{_named(error) or doing.capitalize()}: {error.strerror}.", hint=hint)
    import sqlite3  # the process gateway loads this module

    if isinstance(error, sqlite3.Error):
        return Unexpected(f"The change could not be recorded: {error}.", hint=hint)
    return Unexpected(
        f"A defect in Gatling ({_where(error)}) stopped {doing}.", hint=f"{hint} Please report it."
    )


def write(doing: str, error: BaseException) -> Path | None:
    """Log an error with its traceback; the file, or None where there is none. Never raises."""
    text = _text(error)
    if enabled():
        _print(text)
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    head = f"{moment} gatling {__version__}, process {os.getpid()}, {doing}:"
    try:
        file = _place()
        if file is not None:
            _append(file, visible.lines(f"{head}\n{text}\n"))
    except OSError:
        return None
    return file


def command(argv: Sequence[str], cwd: Path | None) -> None:
    """With GATLING_DEBUG=1, print a program that is about to be run."""
    if enabled():
        _print(f"+ {shown(argv)}{f'  (in {cwd})' if cwd else ''}\n")


def shown(argv: Sequence[str]) -> str:
    """A command line to show: without passwords in addresses or cookies, and not endless."""
    words, hidden = [], False
    for word in argv:
        words.append("…" if hidden else _CREDENTIALS.sub("…@", word))
        hidden = word in _SECRET_OPTIONS
    text = visible.one_line(" ".join(words))
    return text if len(text) <= 1000 else f"{text[:1000]}…"


def _text(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))[-MAX_ENTRY:]


def _print(text: str) -> None:
    try:
        sys.stderr.write(visible.lines(text))
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # closed, or there is none
        pass


def _named(error: OSError, before: str = "") -> str:
    """The file that an error is about."""
    return f"{before}{os.fsdecode(error.filename)}" if error.filename else ""


def _where(error: BaseException) -> str:
    """The last frame of the traceback that is Gatling's own code: `deploy/cutover/hot.py:120`."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    own = [f"{f.filename.removeprefix(PACKAGE)}:{f.lineno}"
           for f in frames if f.filename.startswith(PACKAGE)]  # fmt: skip
    return own[-1] if own else "place unknown"


def _place() -> Path | None:
    """Return the log's directory: an existing one of this user's own, if any."""
    from gatling import paths  # the process gateway loads this module

    candidates = [paths.default_root()]
    if os.geteuid() == 0:  # root writes nothing where gatling could put a link
        candidates.insert(0, paths.SERVER)
    for directory in candidates:
        try:
            found = directory.stat()
        except OSError:
            continue
        if found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode):
            return directory / NAME
    return None


def _append(file: Path, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(file, flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_size > MAX_BYTES:
            file.replace(file.with_name(f"{NAME}.1"))
            os.close(fd)
            fd = os.open(file, flags, 0o600)
        os.write(fd, text.encode("utf-8", "backslashreplace"))
    finally:
        os.close(fd)
