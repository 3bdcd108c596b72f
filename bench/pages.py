"""Measure how long the dashboard's pages take in a browser: the first byte, and the first paint.

    python bench/pages.py [--rounds 8]

An app is pushed, and numbers are kept. Chromium loads each page in a new tab, the pages in turn, so
that a busy moment of the machine meets all of them. The first round is left out. The result is the
median of each page with its extremes, the browser's time for styles and layout, the elements of the
page, the memory of the dashboard, and the load of the machine.

`/apps/shop` is shown twice: the second time its node was asked within the last seconds.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

from bed import PYTHON, Bed, bed

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

EXAMPLE = Path(__file__).parents[1] / "examples/counter"
PAGES = (
    "/", "/apps/shop", "/apps/shop?span=6h", "/apps/shop/deployments", "/apps/shop/deployments/1",
    "/apps/shop/logs", "/apps/shop/jobs", "/apps/shop/settings", "/apps/shop/audit",
    "/certificates", "/databases", "/audit", "/nope",
)  # fmt: skip
"""The last is the smallest page: what it takes, a browser takes for any."""
TIMES = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return paint ? [page.responseStart, paint.startTime] : null;
}"""
WIDTH, HEIGHT = 1280, 800


class Load(NamedTuple):
    """One load of a page, in milliseconds."""

    first_byte: float
    paint: float
    layout: float
    """What the browser needed for styles and layout until it had painted."""
    elements: float


def main() -> None:
    """Measure once, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    rounds = parser.parse_args().rounds
    with bed() as home:
        home.gatling("up")
        project = home.root / "shop"
        shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("_build", "deps", "test"))
        home.repository(project, "shop")
        home.output(["git", "push", "--quiet", "gatling", "main"], project)
        home.gatling("watch", "on")
        measure(home, rounds)


def measure(home: Bed, rounds: int) -> None:
    """Open the dashboard, and load its pages."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with subprocess.Popen(
        [PYTHON, "-I", "-m", "gatling", "dashboard", "--print"], env=home.env, text=True,
        stdout=subprocess.PIPE,
    ) as dashboard, sync_playwright() as playwright:  # fmt: skip
        if dashboard.stdout is None:
            raise RuntimeError("the dashboard has no output")
        link = urlsplit(dashboard.stdout.readline().strip())
        base = f"/{link.path.split('/')[1]}"
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
        name, _, value = cookie(link.netloc, link.path).partition("=")
        context.add_cookies(
            [{"name": name, "value": value, "domain": "127.0.0.1", "path": f"{base}/"}]
        )
        found: dict[str, list[Load]] = {path: [] for path in PAGES}
        for number in range(rounds + 1):
            for path, loads in found.items():
                one = load(context, f"http://{link.netloc}{base}{path}")
                if number:
                    loads.append(one)
        for path, loads in found.items():
            *times, elements = zip(*loads, strict=True)
            print(f"{path:26}", *(f"{each:28}" for each in map(spread, times)), max(elements))
        status = Path(f"/proc/{dashboard.pid}/status").read_text()
        memory = int(status.partition("VmRSS:")[2].split()[0]) / 1000
        print(f"(first byte, first paint, styles and layout, elements;"
              f" load {os.getloadavg()[0]:.1f}, {memory:.0f} MB in the dashboard)")  # fmt: skip
        browser.close()
        dashboard.terminate()


def cookie(place: str, path: str) -> str:
    """Follow the link; the cookie that it gives."""
    connection = http.client.HTTPConnection(place, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.headers["Set-Cookie"].partition(";")[0]


def load(context: BrowserContext, url: str) -> Load:
    """Load a page in a new tab."""
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable")
    page.goto(url)
    # the content policy forbids what waits for a function of a page
    while (times := page.evaluate(TIMES)) is None:
        page.wait_for_timeout(10)
    metrics = {
        one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]
    }
    elements = page.evaluate("document.getElementsByTagName('*').length")
    page.close()
    layout = 1000 * (metrics["LayoutDuration"] + metrics["RecalcStyleDuration"])
    return Load(times[0], times[1], layout, elements)


def spread(values: tuple[float, ...]) -> str:
    """`160 ms (141 … 236)`: median and extremes of milliseconds."""
    return f"{statistics.median(values):.0f} ms ({min(values):.0f} … {max(values):.0f})"


if __name__ == "__main__":
    main()
