"""Times as Gatling stores and prints them."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """The present time, as `stamp` writes it."""
    return stamp(datetime.now(UTC))


def stamp(moment: datetime) -> str:
    """A time in UTC: ISO 8601 with milliseconds and `Z`, so that times sort as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp_of(seconds: float) -> str:
    """A Unix time, as `stamp` writes it."""
    return stamp(datetime.fromtimestamp(seconds, UTC))


def seconds_since(stamped: str) -> float:
    """The seconds since a time in ISO 8601, such as `stamp` writes; not below 0."""
    then = datetime.fromisoformat(stamped)
    return round(max(0.0, (datetime.now(UTC) - then).total_seconds()), 3)


def day(seconds: float) -> str:
    """The date, in UTC, of a Unix time: 2027-02-01."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
