"""Errors and results as they are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gatling import decoding, visible
from gatling.errors import Exit, GatlingError, InvalidInput, NotAllowed
from gatling.operations.sending import NotDelivered

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES: Mapping[Exit, int] = {
    Exit.USAGE: 422,
    Exit.INVALID: 422,
    Exit.NOT_FOUND: 404,
    Exit.REFUSED: 409,
    Exit.BUILD_FAILED: 409,
    Exit.UNHEALTHY: 409,
    Exit.MIGRATION_FAILED: 409,
    Exit.INTERRUPTED: 409,
    Exit.HOST: 503,
}
"""Statuses by the exit status of the same error on a command line; all others are 500."""
BY_CODE: Mapping[str, int] = {NotAllowed.code: 403, NotDelivered.code: 409}
"""Statuses of errors whose exit status says less."""


class Refused(GatlingError):
    """A request that is answered before a call is made."""

    def __init__(
        self,
        status: int,
        code: str,
        what: str,
        *,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what, hint=hint)
        self.status, self.code, self.headers = status, code, dict(headers or {})


def status_of(error: GatlingError) -> int:
    """The status with which an error is answered."""
    if isinstance(error, Refused):
        return error.status
    return BY_CODE.get(error.code) or STATUSES.get(error.exit_status, 500)


def encoded(error: GatlingError) -> bytes:
    """An error as JSON, in which control characters of a log are visible."""
    return visible.in_json(msgspec.json.encode(error.json()).decode()).encode()


def converted(value: object, kind: object, what: str, *, strict: bool = True) -> object:
    """A value of that type; raises InvalidInput in words."""
    try:
        return decoding.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{what}: {error}.") from None


def decoded(raw: bytes, kind: object) -> object:
    """A body as a value of that type; raises Refused or InvalidInput."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(400, "malformed", "The body is not JSON.") from None
    return converted(value, kind, "The body")
