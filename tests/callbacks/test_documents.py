"""The examples of docs/callbacks.md do what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gatling.build import callbacks
from tests.callbacks.conftest import lines_after

if TYPE_CHECKING:
    from tests.callbacks.conftest import Called

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "callbacks.md").read_text()


def test_the_examples_are_called(shop: Called) -> None:
    elixir, sh = re.findall(r"^```(?:elixir|sh)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    shop.project.write("upgrade.exs", elixir)
    shop.hook("after_health_check", sh)
    text = shop.push()
    status = shop.world.status()
    release = status["release"]
    assert "$ mkdir -p priv/static (" in text
    goes = f"shop goes from {shop.live} to {release}"
    assert lines_after(text, "before_upgrade_service")[0] == goes
    port = status["port"]
    assert lines_after(text, "after_health_check") == [f"{release} of shop answers on port {port}"]
    live = f"{release} is live, by rolling"
    assert lines_after(text, "after_upgrade_service")[:2] == [f"$ echo {live}", live]


def test_every_step_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", TEXT))
    for kind in ("deploy", "upgrade"):
        assert {name.partition("_")[2] for name in callbacks.points(kind)} <= named


def test_every_field_is_named() -> None:
    source = (Path(callbacks.__file__).parent / "priv/callbacks.ex").read_text()
    struct = re.search(r"defstruct \[(.*?)\]", source, re.DOTALL)
    assert struct
    fields = set(re.findall(r":(\w+)", struct[1]))
    assert len(fields) > 24
    assert fields <= set(re.findall(r"`(\w+)`", TEXT))


def test_every_variable_is_in_bold(shop: Called) -> None:
    shop.hook("after_stop_previous", "#!/bin/sh\nexport -p\n")
    said = "\n".join(lines_after(shop.push(), "after_stop_previous"))
    variables = set(re.findall(r"^export GATLING_(\w+)=", said, re.MULTILINE)) - {
        "ENV",
        "MARK",
        "CONFIG",
    }
    assert variables == {name.upper() for name in re.findall(r"\*\*`(\w+)`\*\*", TEXT)}
