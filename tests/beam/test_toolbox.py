"""Where the beams for a release's nodes are: the release says so in part, and is not trusted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gatling.beam import toolbox
from gatling.errors import InvalidInput
from tests.places import embedded_home

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_of_a_release_leads_elsewhere(tmp_path: Path) -> None:
    paths = embedded_home(tmp_path / "home").app("shop")
    releases = paths.release(1) / "releases"
    releases.mkdir(parents=True)
    well: dict[str, Any] = {"number": 1, "elixir": "1.14.0", "otp": "25.2.3"}

    def found(erts: str = "13.1.5", **odd: str) -> Path:
        (releases / "start_erl.data").write_text(f"{erts} 0.1.0\n")
        release: Any = SimpleNamespace(**(well | odd))
        return toolbox.beams(paths, release)

    assert found().name == "1.14.0-25-13.1.5-nodes"
    assert found(elixir="").name == "-25-13.1.5-nodes"
    for odd in ({"erts": "../../x"}, {"elixir": "1/../../x"}, {"otp": "/etc"}):
        with pytest.raises(InvalidInput):
            found(**odd)
