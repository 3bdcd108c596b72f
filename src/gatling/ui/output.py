"""Tables and JSON for reading commands."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns under a dim header."""
    import click  # noqa: PLC0415 (slow to load, and a push needs no table)

    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(h), *(len(r[i]) for r in cells), 0) for i, h in enumerate(header)]
    click.secho(
        "  ".join(h.ljust(w) for h, w in zip(header, widths, strict=True)).rstrip(), dim=True
    )
    for row in cells:
        click.echo("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def print_json(value: Any) -> None:
    """Print a value for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


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
    return "–" if value is None or value == "" else str(value)
