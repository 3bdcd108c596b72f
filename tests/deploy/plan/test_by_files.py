"""How two releases differ by their files alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gatling.deploy.plan.by_files import Module, glance

if TYPE_CHECKING:
    from pathlib import Path


def tree(root: Path, files: dict[str, str], like: Path | None = None) -> Path:
    """A release's tree; files that `like` has with the same content are hard links to those."""
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if like is not None and (like / path).exists() and (like / path).read_text() == text:
            os.link(like / path, file)
        else:
            file.write_text(text)
    return root


COMMON = {
    "lib/shop-0.1.0/ebin/Elixir.Shop.beam": "1",
    "lib/shop-0.1.0/ebin/shop.app": "1",
    "lib/kernel-9.0/ebin/code.beam": "1",
    "releases/0.1.0/vm.args": "1",
    "releases/COOKIE": "1",
    "erts-15.0/bin/beam.smp": "1",
}


def test_nothing_differs_where_only_versions_do(tmp_path: Path) -> None:
    old = tree(tmp_path / "v1", COMMON)
    new = tree(
        tmp_path / "v2", {path.replace("0.1.0", "0.2.0"): text for path, text in COMMON.items()}
    )
    assert glance(old, new).summary() == ["no file differs"]


def test_what_differs_is_named(tmp_path: Path) -> None:
    old = tree(tmp_path / "v1", COMMON | {"lib/shop-0.1.0/ebin/Elixir.Shop.Old.beam": "1"})
    files = COMMON | {
        "lib/shop-0.1.0/ebin/Elixir.Shop.beam": "2",
        "lib/shop-0.1.0/ebin/shop_new.beam": "1",
        "lib/shop-0.1.0/priv/static/app.js": "1",
        "releases/0.1.0/vm.args": "2",
        "erts-15.0/bin/beam.smp": "2",
    }
    seen = glance(old, tree(tmp_path / "v2", files, like=old))
    assert seen.changed == (Module("shop", "Shop"),)
    assert seen.added == (Module("shop", "shop_new"),)
    assert seen.removed == (Module("shop", "Shop.Old"),)
    assert seen.summary() == [
        "1 module changed, 1 module added, 1 module removed",
        "releases/vm.args changed",
        "files in priv of shop",
        "the BEAM itself changes",
    ]


def test_links_are_compared_and_not_followed(tmp_path: Path) -> None:
    old, new = tree(tmp_path / "v1", COMMON), tree(tmp_path / "v2", COMMON)
    for root, target in ((old, "/nowhere"), (new, "/elsewhere")):
        (root / "lib/shop-0.1.0/priv").mkdir()
        (root / "lib/shop-0.1.0/priv/link").symlink_to(target)
    assert glance(old, new).assets == ("shop",)
