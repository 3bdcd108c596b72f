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
            rf"The project requires {name} \(.tool-versions\), and this host has \d", output
        )
        assert "mix_deps_get" not in shop.world.steps()
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


def test_files_of_other_tools_are_read_too(shop: Project) -> None:
    (shop.directory / ".tool-versions").unlink(missing_ok=True)
    mise = '[env]\nelixir = "1.1"\n[tools]\nnode = "20"\nelixir = { version = "9.1.2" } # why\n'
    for file, text, name in (
        ("mise.toml", mise, "Elixir 9.1.2"),
        (".config/mise.toml", '[tools]\nerlang = ["99", "27"]\n', "OTP 99"),
        ("elixir_buildpack.config", "elixir_version=v9.2\nerlang_version=25.0\n", "Elixir v9.2"),
    ):
        shop.write(file, text)
        shop.write("Procfile", "web: mix phx.server\n")
        shop.commit()
        output = shop.push(ok=False)
        assert f"The project requires {name} ({file}), and this host has" in output
        (shop.directory / file).unlink()
