"""The files of others are unchanged, and their licences are with them."""

from __future__ import annotations

import hashlib

import pytest

from gatling.dashboard import pages
from gatling.dashboard.application import ASSETS
from gatling.dashboard.door import Door
from gatling.dashboard.rendering import STATIC, Renderer

DIGESTS = {
    "htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "htmx.LICENSE": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    "uplot.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""SHA-256 of htmx.org 4.0.1 and uplot 1.6.32, as npm has them."""


@pytest.mark.parametrize("name", DIGESTS)
def test_a_file_is_as_it_was_published(name: str) -> None:
    assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == DIGESTS[name]


def test_every_template_is_compiled_beforehand_and_used() -> None:
    used = {page.template for page in pages.EVERY} | {"base.html", "macros.html", "enter.html",
                                                      "error.html", "noted.html"}  # fmt: skip
    assert set(Renderer(Door(8099)).load()) == used


def test_every_file_is_served_or_a_licence() -> None:
    files = {file.name for file in STATIC.iterdir()}
    assert files == {*ASSETS, "htmx.LICENSE", "uplot.LICENSE"}
