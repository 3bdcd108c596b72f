"""The reasons of failed connections, as libraries wrap them."""

from __future__ import annotations

import errno
import os

import pytest
import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError, ReadTimeoutError

from gatling import causes

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def wrapped(cause: BaseException, *, hidden: bool = False) -> requests.ConnectionError:
    """An error of requests, as it comes from urllib3."""
    pool: None = None
    failed = NewConnectionError(pool, "failed to establish a connection")  # type: ignore[arg-type]
    failed.__cause__, failed.__context__ = (None, cause) if hidden else (cause, None)
    return requests.ConnectionError(MaxRetryError(pool, "/", failed))  # type: ignore[arg-type]


@pytest.mark.parametrize("hidden", [False, True])
def test_the_words_of_the_system_are_found_below_those_of_libraries(*, hidden: bool) -> None:
    error = wrapped(REFUSED, hidden=hidden)
    assert causes.of_connection(error, timed_out=False) == "Connection refused"
    assert REFUSED in list(causes.below(error))


def test_a_failure_without_words_of_the_system() -> None:
    assert causes.of_connection(wrapped(ValueError("x")), timed_out=False) == (
        "the connection failed"
    )
    slow = requests.ReadTimeout(ReadTimeoutError(None, "/", "read timed out"))  # type: ignore[arg-type]
    assert causes.of_connection(slow, timed_out=True) == "no answer in time"


def test_errors_that_wrap_each_other_end() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert list(causes.below(first)) == [first, second]
