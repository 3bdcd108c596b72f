"""The embedded home fulfils what every platform has to.

That is said in tests/contract.py for protocols, and in tests/commands_contract.py for commands.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import commands_contract, contract
from tests.commands_contract import Bench, Done, Kind
from tests.conftest import Client, World, kill_and_wait, new_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Embedded:
    """An app of a home. See commands_contract.Place."""

    kind: Kind = "embedded"

    def __init__(self, world: World) -> None:
        self._world = world
        self.project = world.load(strategy="auto")

    def run(self, *words: str) -> Done:
        return commands_contract.at_home(self._world, *words)

    def ask(self) -> tuple[int, str]:
        answer = self._world.get()
        return answer.status, answer.text

    @contextlib.contextmanager
    def load(self) -> Iterator[list[str]]:
        failures: list[str] = []
        with Client(self._world) as client:
            yield failures
        failures += client.failures

    def kill(self) -> None:
        kill_and_wait(self._world.status()["pid"])


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with new_world() as world:
        yield Bench(Embedded(world))


@pytest.mark.parametrize("check", commands_contract.CHECKS, ids=commands_contract.NAMES)
def test_commands_of_an_embedded_home(bench: Bench, check: Callable[[Bench], None]) -> None:
    check(bench)


def test_an_embedded_home_is_a_platform(world: World) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(contract.__file__)],
        env=world.env, cwd=world.root, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{len(contract.CHECKS)} checks, 0 failed\n"), (
        done.stdout + done.stderr
    )
