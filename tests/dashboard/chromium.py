"""Chromium of the machine, driven by playwright, and axe-core, which is fetched once from npm."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.host import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext

    from tests.dashboard.opened import Opened

AXE = "axe-core@4.14.1"
ELSEWHERE = "evil.example"
"""A name that the browser takes for this machine."""


class Chromium:
    """A browser."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._profiles: list[BrowserContext] = []

    def context(self, page: Opened | None = None, **options: Any) -> BrowserContext:
        """A profile, which has the cookie of a dashboard."""
        made = self._browser.new_context(**options)
        if page is not None:
            name, _, value = page.cookie.partition("=")
            made.add_cookies([{
                "name": name, "value": value, "domain": "127.0.0.1", "path": f"{page.base}/",
                "httpOnly": True, "sameSite": "Strict",
            }])  # fmt: skip
        self._profiles.append(made)
        return made

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Close the profiles that are made in the block: an open page loads itself again."""
        before = len(self._profiles)
        yield
        while len(self._profiles) > before:
            self._profiles.pop().close()


@contextlib.contextmanager
def started() -> Iterator[Chromium]:
    """The browser; skips the test without one."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"],
        )
        yield Chromium(browser)
        browser.close()


def axe() -> str:
    """The script that looks for what keeps people from using a page."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatling"
    place = cache / AXE.replace("@", "-")
    with locked(cache / "axe.lock"):
        file = place / "package" / "axe.min.js"
        if not file.exists():
            if not shutil.which("npm"):
                pytest.skip("axe-core is fetched with npm")
            place.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                ["npm", "pack", AXE, "--json"], cwd=place, capture_output=True, text=True,
                check=False, timeout=120,
            )  # fmt: skip
            if done.returncode:
                pytest.skip("npm has no registry here")
            with tarfile.open(place / json.loads(done.stdout)[0]["filename"]) as archive:
                archive.extractall(place, filter="data")
    return file.read_text()
