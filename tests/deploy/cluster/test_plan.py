"""The plan for all nodes of an app at once."""

from __future__ import annotations

import pytest

from gatling.beam.comparison import Beam, Comparison
from gatling.deploy.cluster import hot
from gatling.errors import InvalidInput
from gatling.project import settings

SETTINGS = settings.parse({})
PAGE = Beam("Elixir.Shop.Page", app="shop", old=Beam("Elixir.Shop.Page", app="shop"))
SAME = Comparison("same", changed=[PAGE])
DRIFTED = Comparison("same", changed=[PAGE], drift=["Elixir.Shop.Page"])


def test_all_nodes_agree() -> None:
    found = hot.union({"a": SAME, "b": SAME}, "auto", SETTINGS)
    assert found.strategy == "hot"
    assert found.reasons == ("shop: 1 changed module", "2 pods at once")


def test_one_node_is_in_the_way_of_all() -> None:
    found = hot.union({"a": SAME, "b": DRIFTED, "c": SAME}, "auto", SETTINGS)
    assert found.strategy == "rolling"
    assert found.reasons == (
        "the node runs code that differs from its release: Shop.Page (in the pod b)",
    )
    with pytest.raises(InvalidInput, match="in the pod b"):
        hot.union({"a": SAME, "b": DRIFTED}, "hot", SETTINGS)


def test_what_is_in_the_way_everywhere_names_no_pod() -> None:
    other = Comparison(["13.0", "14.0"])
    found = hot.union({"a": other, "b": other}, "auto", SETTINGS)
    assert found.reasons == ("the BEAM itself changes: erts 13.0 → 14.0",)


def test_config_that_reaches_all_pods_is_hot() -> None:
    told = Comparison("same", env=[("shop", ":limit", "delivered")])
    found = hot.union({"a": told, "b": told}, "auto", SETTINGS)
    assert found.strategy == "hot"
    assert found.reasons[0] == "config of shop: :limit"


def test_config_that_one_pod_reads_at_its_start_is_in_the_way_of_all() -> None:
    told = Comparison("same", env=[("shop", ":limit", "delivered")])
    reads = Comparison("same", env=[("shop", ":limit", "at_start")])
    found = hot.union({"a": told, "b": reads}, "auto", SETTINGS)
    assert found.strategy == "rolling"
    assert found.reasons == (
        "config of shop, :limit, changes and is read when its process starts (in the pod b)",
    )
