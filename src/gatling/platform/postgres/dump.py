"""Comparing a dump with the database that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

PIECE = 1 << 20


def rows(script: IO[bytes]) -> dict[str, int]:
    """The number of rows of each table in what `pg_restore --data-only` prints, by quoted name."""
    found: dict[str, int] = {}
    table, begins = "", True
    while piece := script.readline(PIECE):  # a row can be long
        if table:
            if begins and piece == b"\\.\n":
                table = ""
            elif piece.endswith(b"\n"):
                found[table] += 1
        elif begins and piece.startswith(b"COPY ") and piece.endswith(b" FROM stdin;\n"):
            table = _table(piece.decode("utf-8", "replace"))
            found.setdefault(table, 0)
        begins = piece.endswith(b"\n")
    return found


def _table(line: str) -> str:
    """`"my schema".orders` in `COPY "my schema".orders (id) FROM stdin;`."""
    quoted = False
    text = line.removeprefix("COPY ")
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == " " and not quoted:
            return text[:index]
    return text


def difference(expected: Mapping[str, int], found: Mapping[str, int]) -> str:
    """The first table whose rows are not all in a dump, in words; empty when there is none."""
    for table, count in expected.items():
        if found.get(table, 0) != count:
            return f"{table} has {count} rows, and the copy has {found.get(table, 0)}"
    return ""
