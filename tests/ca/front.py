"""nginx in front of apps, which answers the challenges of the app `shop`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from gatling.proxy.route import point_at
from gatling.proxy.site import Site
from tests.proxy.bench import App, Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def serving(
    root: Path,
    *names: str,
    without: tuple[str, ...] = (),
    change: Callable[[str], str] = str,
) -> Iterator[Bench]:
    """Serve `shop` under names, and under `without` an app `other` that answers no challenges.

    Answers are files in `root/challenges`. `change` is applied to nginx's configuration.
    """
    challenges = root / "challenges"
    challenges.mkdir()
    bench, app = Bench(root), App()
    ports = {1: app.port, 2: app.port}
    sites = [Site("shop", names, ports, root / "shop", challenges=challenges)]
    if without:
        sites.append(Site("other", without, ports, root / "other"))
    for site in sites:
        point_at(root / site.app, 1, mode=0o755)
    bench.configure(sites, change)
    with bench.running():
        yield bench
    app.close()
