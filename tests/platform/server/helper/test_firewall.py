"""The table of ports on a kernel that cannot do everything that it asks for."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from gatling.platform.server import units
from gatling.platform.server.helper import firewall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.platform.server.helper.conftest import Helper


def loads(refused: tuple[str, ...]) -> tuple[list[str], Callable[..., object]]:
    """A `nft` that refuses tables with one of these words, and the tables that it was given."""
    given: list[str] = []

    def call(argv: list[str]) -> str:
        assert argv == ["nft", "-f", str(firewall.FILE)]
        given.append(firewall.FILE.read_text())
        if any(word in given[-1] for word in refused):
            raise subprocess.CalledProcessError(1, argv, stderr=f"{len(given)}".encode())
        return ""

    return given, call


@pytest.mark.parametrize(("refused", "times"), [((), 1), (("reject",), 2)])
def test_a_table_is_kept_as_the_kernel_takes_it(
    helper: Helper, refused: tuple[str, ...], times: int
) -> None:
    helper.users.known[units.user("shop")] = "Gatling app shop"
    given, call = loads(refused)
    firewall.write({"shop": [20001]}, call)
    assert len(given) == times
    assert firewall.FILE.read_text() == given[-1]
    assert "20001" in given[-1]
    assert ("reject" in given[-1]) == (not refused)


def test_a_table_that_is_refused_for_another_reason_is_an_error(
    helper: Helper, tmp_path: Path
) -> None:
    assert helper.root == tmp_path
    given, call = loads(("table",))
    with pytest.raises(subprocess.CalledProcessError) as error:
        firewall.write({"shop": [20001]}, call)
    assert error.value.stderr == b"1", "the first one"
    assert "reject" in given[0]
    assert len(given) == 2
