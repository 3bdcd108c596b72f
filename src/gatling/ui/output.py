"""Tables and JSON for reading commands."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gatling import visible
from gatling.ui import progress

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns under a dim header."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(h), *(len(r[i]) for r in cells), 0) for i, h in enumerate(header)]
    echo("  ".join(h.ljust(w) for h, w in zip(header, widths, strict=True)).rstrip(), style="dim")
    echo(
        *("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)
    )


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
    """`12.4 MB`, `90 kB`: bytes for people, in powers of ten."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "–" if value is None or value == "" else visible.one_line(str(value))
