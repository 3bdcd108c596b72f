"""The generated pages of docs/ are what the code says now."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from tests.conftest import ROOT

if TYPE_CHECKING:
    from types import ModuleType


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_up_to_date() -> None:
    made: Any = reference()
    again = "run `.venv/bin/python docs/reference.py`"
    assert (ROOT / "docs/commands.md").read_text() == made.commands(), again
    assert (ROOT / "docs/settings.md").read_text() == made.all_settings(), again
    assert (ROOT / "docs/gatling.schema.json").read_text() == made.schema(), again
    assert (ROOT / "docs/api.md").read_text() == made.api(), again
    assert (ROOT / "docs/openapi.json").read_text() == made.openapi(), again
