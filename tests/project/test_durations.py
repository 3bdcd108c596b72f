"""Lengths of time with a unit, in settings and in gatling.toml."""

from __future__ import annotations

import pytest

from gatling.errors import InvalidInput, InvalidManifest
from gatling.project import manifest, settings


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("90s", 90), ("1.5h", 5400), ("2", 2), ("0.5", 0.5)]
)
def test_a_unit_may_be_given(text: str, seconds: float) -> None:
    assert settings.parse({"hot.watch": text}).hot.watch == seconds
    in_toml = text if text.replace(".", "").isdecimal() else f'"{text}"'
    assert float(manifest.parse(f"[hot]\nwatch = {in_toml}\n".encode())["hot.watch"]) == seconds


@pytest.mark.parametrize("text", ["5x", "m", "-5m", "5 m", "5m\n", "99h", "0s", "\u0665m", "1e3s"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"hot\.watch"):
        settings.parse({"hot.watch": text})


def test_in_gatling_toml_as_well() -> None:
    with pytest.raises(InvalidManifest, match=r"line 2: hot\.watch"):
        manifest.parse(b'[hot]\nwatch = "99h"\n')


def test_only_where_the_documentation_says_so() -> None:
    with pytest.raises(InvalidInput, match=r"build\.timeout"):
        settings.parse({"build.timeout": "5m"})
