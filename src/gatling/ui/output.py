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
    """`3 m ago`, for a stored time."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()
    return f"{duration(max(0, seconds))} ago"


def duration(seconds: float) -> str:
    """`250 ms`, `1.4 s`, `3 m`, `5 h`, `2 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size * (2 if unit == "m" else 1):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def size(count: int) -> str:
    """`12.4 MB`, `90 kB`: bytes for people, in powers of ten."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "–" if value is None or value == "" else visible.one_line(str(value))
