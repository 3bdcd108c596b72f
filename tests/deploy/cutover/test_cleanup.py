"""A clean-up that fails never hides what it follows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from gatling.deploy.cutover import instance
from gatling.errors import SupervisorFailed, UnhealthyRelease
from gatling.project import settings
from tests.runtime.test_spec import APP

if TYPE_CHECKING:
    from gatling.platform.open import Gatling


def fail(*_: object, **__: object) -> None:
    raise SupervisorFailed("shop.2 (pid 7) cannot be stopped.")


GATLING = cast("Gatling", SimpleNamespace(instances=SimpleNamespace(stop=fail)))


def test_the_first_error_is_the_one_that_is_raised() -> None:
    with (
        pytest.raises(UnhealthyRelease, match="never healthy") as caught,
        instance.throw_away(GATLING, APP, 2, settings.parse({})),
    ):
        raise UnhealthyRelease("v8 was never healthy.", log=["its last words"])
    assert caught.value.log[0] == "its last words"
    assert "cannot be stopped" in caught.value.log[-1]


def test_without_an_error_the_failure_of_the_clean_up_is_raised() -> None:
    with (
        pytest.raises(SupervisorFailed, match="cannot be stopped"),
        instance.throw_away(GATLING, APP, 2, settings.parse({})),
    ):
        pass
