"""Tables and JSON for reading commands."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gatling import visible
from gatling.ui import progress, tables

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    cut: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> None:
    """Print rows in columns under a dim header; in a terminal they take its width at most.

    `cut` names the columns that are shortened first, `drop` those that are left out then. A pipe
    gets everything.
    """
    columns = tables.Columns(tuple(header), tuple(tuple(map(_cell, row)) for row in rows))
    room = terminal_width()
    if room is not None:
        columns = tables.fitted(columns, room, cut, drop)
    first, *lines = tables.lines(columns)
    echo(first, style="dim")
    if not progress.takes_colour(sys.stdout):
        echo(*lines)
        return
    for line, row in zip(lines, columns.rows, strict=True):
        sys.stdout.write(_coloured(line, row) + "\n")
    sys.stdout.flush()


def fields(rows: Sequence[tuple[str, object]]) -> None:
    """Print labels and their values, as wide as the terminal."""
    room = terminal_width()
    for label, value in rows:
        echo(*tables.field(label, _cell(value), room))


def terminal_width() -> int | None:
    """The width of the terminal that standard output is; None when it is none."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


_COLOURS = {
    "succeeded": "green", "running": "green", "live": "green",
    "failed": "red", "down": "red", "restarting": "red", "interrupted": "red",
}  # fmt: skip
"""The states and outcomes that a person looks for in a list."""


def _coloured(line: str, row: Sequence[str]) -> str:
    """The line of a row, with the first cell that is a state in its colour."""
    for cell in row:
        style = _COLOURS.get(cell.partition(" ")[0].rstrip(","))
        if style:
            return line.replace(cell, progress.styled(cell, style), 1)
    return line


def echo(*lines: str, err: bool = False, style: str = "") -> None:
    """Print lines; control characters in them, line ends included, are made visible."""
    stream = sys.stderr if err else sys.stdout
    styles = [style] if style and progress.takes_colour(stream) else []
    for line in lines:
        stream.write(progress.styled(visible.one_line(line), *styles) + "\n")
    stream.flush()


def echo_text(text: str) -> None:
    """Print a text of several whole lines, such as a log; as `echo`."""
    sys.stdout.write(visible.lines(text))
    sys.stdout.flush()


def echo_exactly(value: str) -> None:
    """Print a stored value and a line end: for programs, which want all of its characters."""
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """Print a value for programs; the typed results of operations are objects with their fields."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    sys.stdout.write(visible.in_json(text) + "\n")


def _plain(result: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(result)


def ago(stamp: str) -> str:
    """`just now`, `18 s ago`, `3m ago`, `2d ago`, for a stored time."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()
    if seconds < 1:
        return "just now"
    return f"{duration(seconds).partition(' ')[0] if seconds >= 60 else f'{seconds:.0f} s'} ago"


def duration(seconds: float) -> str:
    """`250 ms`, `1.4 s`, `18 s`, `1m 42s`, `5h 3m`, `2d 4h`."""
    if seconds < 59.5:
        if seconds < 1:
            return f"{seconds * 1000:.0f} ms"
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    rest, parts = round(seconds), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, rest = divmod(rest, size)
        parts.append(f"{count}{unit}" if count else "")
    first = next(at for at, part in enumerate(parts) if part)
    return " ".join(filter(None, parts[first : first + 2]))


def size(count: int) -> str:
    """`12.4 MB`, `90 kB`, `12 B`: bytes for people, in powers of ten."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if value is None or value == "":
        return tables.EMPTY
    return visible.one_line(str(value)).replace("\t", " ")
