"""Each effect of a renewal fails once, or is the last one of a process that is killed.

Whatever happens, a valid certificate serves; and the next runs of the timer complete the renewal
and leave nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, NoReturn

import pytest

from gatling.errors import CertificateFailed, GatlingError
from gatling.operations import issuing
from tests.operations.issuer import DAY, House, serves

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.proxy.certificates import Certificate

DOMAIN = "shop.example"


@pytest.fixture(scope="module")
def effects(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    with pytest.MonkeyPatch.context() as patched:
        house = due(tmp_path_factory.mktemp("house"), patched)
        before = serves(house, DOMAIN)
        assert issuing.renew(house.gatling)[0].domains == [DOMAIN]
        completed(house, before)
        return house.done


def due(root: Path, patched: pytest.MonkeyPatch) -> House:
    """A server with a certificate that is to be renewed now."""
    house = House(root, patched, DOMAIN)
    issuing.issue(house.gatling, "shop")
    house.now += 61 * DAY
    house.done.clear()
    house.also(patched)
    return house


def completed(house: House, before: Certificate | None, after: str = "") -> None:
    """Another certificate serves than before, and nothing else is there."""
    found = serves(house, DOMAIN)
    assert found
    assert before
    assert found.not_after > before.not_after, after
    assert [one.name for one in (house.kept.root / "shop").iterdir()] == [found.id]
    if not after.endswith("withdraw"):  # a token that could not be removed goes with the next one
        assert list((house.root / "challenges").iterdir()) == []
    assert house.state().error == ""


def later(house: House) -> None:
    """The timer runs for two days."""
    house.left = -1
    for _ in range(4):
        house.now += DAY / 2
        for place in (house.kept.root / "shop", house.root / "challenges"):
            for one in place.iterdir():
                os.utime(one, (0, 0))
        with contextlib.suppress(GatlingError):
            issuing.renew(house.gatling)
        assert serves(house, DOMAIN)


def test_there_are_enough_of_them(effects: list[str]) -> None:
    assert {
        "ari", "request", "order", "present", "verify", "withdraw", "download", "install",
        "configure", "handshake", "retire", "remove", "record", "audit", "write", "sync", "rename",
    } <= set(effects)  # fmt: skip


def short(tmp_path: Path, number: int) -> Path:
    """A directory of a test's own: the paths of unix sockets have a limit."""
    return tmp_path.with_name(f"{tmp_path.name[-3:]}-{number}")


FILES = ("write", "sync", "rename", "rmtree", "record", "audit")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fault", [FULL, CertificateFailed("It failed.")], ids=["full", "error"])
def test_each_effect_fails_once(tmp_path: Path, effects: list[str], fault: Exception) -> None:
    def fail() -> NoReturn:
        raise fault

    for number, effect in enumerate(effects, 1):
        if fault is not FULL and effect in FILES:
            continue
        with pytest.MonkeyPatch.context() as patched:
            house = due(short(tmp_path, number), patched)
            before = serves(house, DOMAIN)
            house.left, house.fault = number, fail
            issuing.renew(house.gatling)  # whatever fails with one app is no error of others
            assert house.done[number - 1] == effect
            assert serves(house, DOMAIN), f"{number}: {effect}"
            later(house)
            completed(house, before, f"{number}: {effect}")
            assert len(house.ca.orders) <= 3, effect
            house.gatling.db.close()


def test_a_kill_at_each_effect(tmp_path: Path, effects: list[str]) -> None:
    for number, effect in enumerate(effects, 1):
        with pytest.MonkeyPatch.context() as patched:
            house = due(short(tmp_path, number), patched)
            before = serves(house, DOMAIN)
            assert house.killed_at(number) == 9
            assert serves(house, DOMAIN), f"{number}: {effect}"
            later(house)
            completed(house, before, f"{number}: {effect}")
            house.gatling.db.close()
