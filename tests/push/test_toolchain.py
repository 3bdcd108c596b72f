"""The Elixir and OTP that a project asks for, against what the host has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Project


def test_an_older_toolchain_than_asked_for_is_refused(shop: Project) -> None:
    before = shop.world.status()
    for line, name in (("elixir 9.1.2-otp-99", "Elixir 9.1.2-otp-99"), ("erlang 99.1", "OTP 99.1")):
        shop.write(".tool-versions", f"# nodes\nnodejs 20.1.0\n{line}\n")
        shop.commit()
        output = shop.push(ok=False)
        assert re.search(
            rf"The project asks for {name} \(.tool-versions\), and this host has \d", output
        )
        assert "mix_deps_get" not in output
    after = shop.world.status()
    assert (after["release"], after["pid"]) == (before["release"], before["pid"])


def test_a_newer_one_is_told(shop: Project) -> None:
    shop.write(".tool-versions", "elixir 1.2.6 # long ago\nerlang 18.0\n")
    shop.commit()
    output = shop.push()
    assert "is newer than the 1.2.6 of .tool-versions" in output
    assert "is newer than the 18.0 of .tool-versions" in output


def test_what_cannot_be_compared_says_nothing(shop: Project) -> None:
    shop.write(".tool-versions", "elixir latest\nerlang ref:master\n\nelixir\n\xff=\n")
    shop.commit()
    assert "newer" not in shop.push()
