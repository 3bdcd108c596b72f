"""Lengths of time in settings: a number of seconds, or a number with a unit: `90s`, `5m`, `1h`."""

from __future__ import annotations

import re

SETTINGS = frozenset({"hot.watch", "rolling.watch"})
"""The settings that may have a unit."""
PATTERN = r"^[0-9]{1,6}(\.[0-9]{1,3})?[smh]\Z"
_UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(key: str, value: object) -> object:
    """A value with a unit as seconds; any other value as it is."""
    if key in SETTINGS and isinstance(value, str) and re.match(PATTERN, value, re.ASCII):
        return float(value[:-1]) * _UNITS[value[-1]]
    return value
