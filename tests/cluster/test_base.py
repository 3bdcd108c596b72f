"""Releases whose images are based on an image of a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.images import image
from gatling.images.layout import Layer, Layout
from tests.cluster.conftest import Cluster, answers, probing
from tests.conftest import until
from tests.images.registries import LOGIN, Running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project, World

pytestmark = pytest.mark.timeout(1200)


def pushed(registry: Running, layout: Layout, layers: tuple[Layer, ...]) -> str:
    """An image in the registry of the platform, as `team/base:1`; its name with the digest."""
    config = {"architecture": image.architecture(), "os": "linux", "config": {"Env": ["X=1"]}}
    made = layout.image(layers, config)
    with registry.open("team/base", login=LOGIN) as target:
        image.push(target, layout, made, "1")
    return f"{registry.host}/team/base@{made.manifest.digest}"


def images(cluster: Cluster) -> set[str]:
    return {one["spec"]["containers"][0]["image"] for one in cluster.pods()}


def test_a_named_image_is_the_base_of_releases(
    shop: Project, world: World, cluster: Cluster, registry: Running, tmp_path: Path
) -> None:
    before, first = world.status()["release"], images(cluster)
    tree = world.home / "apps/shop/releases" / before
    layout = Layout(tmp_path / "images")
    named = pushed(registry, layout, image.debian_base(layout, tree).layers)
    world.run("settings", "set", "shop", f"cluster.base={registry.host}/team/base:1")
    shop.title("on a base")
    with probing():
        said = "".join(shop.push().split())
    assert f"basedon{named}" in said, said
    live = world.status()["release"]
    until(lambda: len(images(cluster)) == 1 and images(cluster) != first, "the new pods")
    assert world.run("run", "shop", "--", "eval", 'IO.puts(System.get_env("X"))') == "1\n"
    on_base = images(cluster)

    # the tag stands for another image now, on which no release can run
    other = pushed(registry, layout, (layout.layer([]),))
    shop.title("on nothing")
    said = " ".join(shop.push(ok=False).split())
    assert "cannot run on the image" in said, said
    assert other in "".join(said.split()).replace("\u2502", "") or "sha256" in said
    assert "the dynamic linker /lib64/ld-linux" in said
    assert world.status()["release"] == live
    world.run("settings", "set", "shop", f"cluster.base={registry.host}/team/none:1")
    said = " ".join(shop.push(ok=False).split())
    assert "There is no image" in said, said
    world.run("settings", "unset", "shop", "cluster.base")

    with probing():
        world.run("rollback", "shop", before)
        until(lambda: images(cluster) == first, "the release on this machine's distribution")
        world.run("rollback", "shop", live)
    until(lambda: images(cluster) == on_base, "the same image as before")
    assert answers(1)
