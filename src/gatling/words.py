"""Words for people."""

from __future__ import annotations


def counted(number: int, one: str) -> str:
    """`1 request`, `2 requests`, `1 process`, `0 processes`."""
    return f"{number} {one}" if number == 1 else f"{number} {one}{'es' if one[-1] == 's' else 's'}"
