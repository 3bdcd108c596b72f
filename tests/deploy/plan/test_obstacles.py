"""What stands in the way of a hot upgrade, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from gatling.beam.comparison import (
    AddedApp,
    Beam,
    ChildChange,
    Comparison,
    Removed,
    Setup,
    TreeChange,
)
from gatling.deploy.plan.obstacles import MAX_STATE_BYTES, cautions, found
from gatling.deploy.plan.plan import describe
from gatling.operations.plans import PlanResult
from gatling.project.settings import Hot

DEFAULT = Hot()
STATE = ["__struct__", "items"]


def changed(
    module: str = "Elixir.Shop.Cart", old: dict[str, Any] | None = None, **new: Any
) -> Beam:
    return Beam(module, app="shop", old=Beam(module, app="shop", **(old or {})), **new)


def comparison(**facts: Any) -> Comparison:
    return Comparison(**{"erts": "same"} | facts)


def tree(**facts: Any) -> Comparison:
    return comparison(trees=[TreeChange("shop", **facts)])


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"versions": [("elixir", "1.18.0", "1.18.1", True)]},
         "elixir 1.18.0 → 1.18.1, a part of Elixir or OTP"),
        ({"changed": [changed("Elixir.Enum", runtime=True)]},
         "Enum changed, a part of Elixir or OTP"),
        ({"boot_files": ["releases/0.1.0/vm.args"]},
         "releases/0.1.0/vm.args changed, which is read at boot"),
        ({"native": [("bcrypt", "bcrypt_nif.so")]},
         "native code of bcrypt changed: priv/bcrypt_nif.so"),
        ({"changed": [changed(on_load=True)]}, "Shop.Cart loads native code (on_load)"),
        ({"changed": [changed(old={"on_load": True})]}, "Shop.Cart loads native code (on_load)"),
        ({"apps_removed": ["mailer"]}, "the application mailer is removed"),
        ({"apps_added": [AddedApp("mnesia", runtime=True)]},
         "the application mnesia of Elixir or OTP is added"),
        ({"added": [Beam("Elixir.Bcrypt.Base", app="bcrypt_elixir", on_load=True)]},
         "Bcrypt.Base loads native code (on_load)"),
        ({"callbacks": [("shop", "module")]},
         "the application shop has a different callback module"),
        ({"callbacks": [("shop", "arguments")]},
         "the application shop starts its callback module with different arguments"),
        ({"boot_keys": [("shop", "start_phases")]},
         "start_phases of shop changed, which is read when the application starts"),
        ({"boot_keys": [("mailer", "type")]},
         "the start type of the application mailer changed (permanent, load, none …)"),
        ({"broken": [("Elixir.Shop.Router", "Shop.Page.html/3")],
          "removed": [Removed("Elixir.Shop.Page", "shop")]},
         "Shop.Page is removed, and Shop.Router still calls Shop.Page.html/3"),
        ({"broken": [("Elixir.Shop.Router", "Shop.Page.html/3")]},
         "Shop.Router calls Shop.Page.html/3, which the release lacks"),
        ({"env": [("shop", "Elixir.Shop.Repo", "at_start")]},
         "config of shop, Shop.Repo, changes and is read when its process starts"),
        ({"env": [("kernel", "logger", "boot_only")]},
         "config of kernel, logger, changes and is read at boot"),
        ({"env": [("shop", "hook", "opaque")]},
         ("config of shop, hook, changes and holds a function or a handle,"
          " which cannot be handed over")),
        ({"drift": ["Elixir.Shop.Patched"]},
         "the node runs code that differs from its release: Shop.Patched"),
        ({"lingering": [["Elixir.Shop.Loop", [["<0.1.0>"], ["<0.2.0>"]]]]},
         "code of Shop.Loop from before the last upgrade still runs in <0.1.0>, <0.2.0>"),
        ({"kept": [("Elixir.Shop.Metrics", ":telemetry_handler_table")]},
         (":telemetry_handler_table keeps a function of Shop.Metrics,"
          " which a hot upgrade would not replace")),
        ({"holding": [["Elixir.Shop.Page", [["<0.1.0>"]]]]},
         "functions of Shop.Page from before the last upgrade are still referenced by <0.1.0>"),
        ({"orphans": [["Elixir.Shop.Worker", [["<0.1.0>"], ["<0.2.0>"]]]]},
         "Shop.Worker is removed, but its code still runs in <0.1.0>, <0.2.0>"),
        ({"memory": MAX_STATE_BYTES + 1}, "the processes to convert hold 512 MB, more than 512"),
    ],
)  # fmt: skip
def test_each_obstacle_has_its_reason(facts: dict[str, Any], reason: str) -> None:
    assert found(comparison(**facts), DEFAULT) == [reason]


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"changed": [changed(), changed("Elixir.Shop.Page")]},
        {"added": [Beam("Elixir.Shop.New", app="shop")]},
        {"removed": [Removed("Elixir.Shop.Old", "shop")]},
        {"versions": [("plug", "1.0.0", "1.1.0", False)]},
        {"apps_added": [AddedApp("mailer", runtime=False)]},
        {"env": [("shop", "limit", "delivered")]},
        {"memory": MAX_STATE_BYTES},
        {"processes": [("Elixir.Shop.Cart", 10_000)]},
        {"assets": ["shop"]},
    ],
)
def test_what_is_no_obstacle(facts: dict[str, Any]) -> None:
    assert found(comparison(**facts), DEFAULT) == []
    assert cautions(comparison(**facts)) == []


INIT = "Shop.Cache.init/1"
SOCKETS = "Shop.Endpoint.__sockets__/0"
KEEPS = "(a code_change/3 of Shop.Cache in the same commit would keep it hot)"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"setup": [Setup("Elixir.Shop.Cache", INIT, INIT)]},
         f"{INIT} changed, and the running Shop.Cache was set up by the old code {KEEPS}"),
        ({"setup": [Setup("Elixir.Shop.Cache", INIT, "Shop.Tables.make/0")]},
         (f"Shop.Tables.make/0 changed, which {INIT} calls, and the running Shop.Cache was set up"
          f" by the old code {KEEPS}")),
        ({"setup": [Setup("Elixir.Shop.Endpoint", SOCKETS, SOCKETS)]},
         f"{SOCKETS} changed, and the running Shop.Endpoint was set up by the old code"),
        ({"setup": [Setup("Elixir.Shop.Application", "Shop.Application.start/2",
                          ":telemetry.attach/4", effect=True)]},
         ("Shop.Application.start/2 calls :telemetry.attach/4 differently, and a hot upgrade does"
          " not run Shop.Application.start/2 again")),
        ({"data": [("shop", "geo.mmdb")]},
         "priv/geo.mmdb of shop changed, and a process may have read it when it started"),
        ({"overlays": ["data/prices.txt"]},
         "data/prices.txt changed, and a process may have read it when it started"),
        ({"setup": [Setup("Elixir.Shop.Cache", INIT, INIT, own=True)]}, None),
    ],
)  # fmt: skip
def test_what_may_differ_from_a_fresh_boot(facts: dict[str, Any], reason: str | None) -> None:
    assert cautions(comparison(**facts)) == ([reason] if reason else [])
    assert found(comparison(**facts), DEFAULT) == []


def test_another_beam_says_it_all() -> None:
    reasons = found(comparison(erts=["15.0", "15.1"], boot_files=["vm.args"]), DEFAULT)
    assert reasons == ["the BEAM itself changes: erts 15.0 → 15.1"]


def test_all_obstacles_are_told() -> None:
    facts = {"apps_removed": ["a", "b"], "boot_files": ["x"], "drift": ["m"]}
    assert len(found(comparison(**facts), DEFAULT)) == 4


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        ({"changed": [changed()]}, ["shop", "Shop.Cart"]),
        ({"added": [Beam("Elixir.Shop.Cart", app="shop")]}, ["shop", "Shop.Cart"]),
        ({"removed": [Removed("Elixir.Shop.Cart", "shop")]}, ["shop", "Shop.Cart"]),
        ({"changed": [changed("Elixir.Shop.Carts")]}, ["shop"]),
        ({}, []),
    ],
)
def test_what_the_settings_exclude(facts: dict[str, Any], names: list[str]) -> None:
    denied = found(comparison(**facts), Hot(deny="shop, Shop.Cart,plug,"))
    assert denied == [f"hot.deny names {name}" for name in names]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (STATE, [*STATE, "total"], "the struct Shop.Cart gained :total, "),
        (STATE, ["__struct__"], "the struct Shop.Cart lost :items, "),
        (STATE, ["__struct__", "total"], "the struct Shop.Cart gained :total and lost :items, "),
        (STATE, "none", "the struct Shop.Cart is removed"),
    ],
)
def test_a_struct_that_changes(before: list[str], after: str | list[str], reason: str) -> None:
    beam = changed(old={"struct": before}, struct=after)
    (told,) = found(comparison(changed=[beam]), DEFAULT)
    assert told.startswith(reason)
    assert found(comparison(changed=[beam]), Hot(structs=True)) == []
    for side in (0, 1):  # a module that converts its state by itself
        modules: list[list[Any]] = [[], []]
        modules[side] = [["Elixir.Shop.Cart", {"code_change": "custom"}]]
        assert found(comparison(changed=[beam], modules=modules), DEFAULT) == []


@pytest.mark.parametrize(
    ("before", "after", "safe"),
    [
        ({"made": 1, "known": 1}, {"made": 2, "known": 1}, False),
        ({"made": 1, "known": 1}, {"made": 2, "known": 2}, True),  # Ecto makes its queries anew
        ({"made": 1, "known": 1}, {"made": 1, "known": 1}, True),
        ("none", {"made": 1, "known": 1}, True),
    ],
)
def test_a_schema_whose_queries_would_stay(before: Any, after: Any, safe: bool) -> None:
    modules = [[["Elixir.Shop.Cart", {"schema": side}]] for side in (before, after)]
    reasons = found(comparison(changed=[changed()], modules=modules), Hot(structs=True))
    assert bool(reasons) != safe
    assert safe or "the schema Shop.Cart changed, but not the names of its fields" in reasons[0]


@pytest.mark.parametrize("before", [STATE, "none"])
def test_a_struct_that_stays_or_is_new(before: str | list[str]) -> None:
    assert found(comparison(changed=[changed(old={"struct": before}, struct=STATE)]), DEFAULT) == []


def test_what_the_planner_found_out_of_a_struct_counts() -> None:
    beam = changed(old={"struct": "unknown"}, struct="unknown")

    def modules(before: list[str], after: list[str]) -> list[list[Any]]:
        return [[[beam.module, {"struct": before}]], [[beam.module, {"struct": after}]]]

    same = comparison(changed=[beam], modules=modules(STATE, STATE))
    assert found(same, DEFAULT) == []
    other = comparison(changed=[beam], modules=modules(STATE, [*STATE, "total"]))
    assert "gained :total" in found(other, DEFAULT)[0]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"flags": "changed"}, "the supervisor of shop changes its strategy or limits"),
        ({"changed": [ChildChange("Elixir.Shop.Box", ["type", "its argument a"])]},
         "the supervisor of shop starts Shop.Box differently: type and its argument a changed"),
        ({"start": ["a"], "strategy": "rest_for_one"},
         "the supervisor of shop is rest_for_one and its children change"),
        ({"stop": ["a"], "strategy": "one_for_all"},
         "the supervisor of shop is one_for_all and its children change"),
        ({"reordered": True, "strategy": "rest_for_one"},
         "the supervisor of shop starts its children in a different order"),
        ({"opaque": ["Elixir.Shop.Task"]},
         "Shop.Task is started with a function or a handle, which cannot be handed over"),
        ({"error": "it raised"},
         "what the supervisor of shop starts cannot be determined: it raised"),
        ({"path": ["Elixir.Shop.Sup", "Elixir.Shop.Sub"], "flags": "changed"},
         "the supervisor of shop, Shop.Sup, Shop.Sub changes its strategy or limits"),
    ],
)  # fmt: skip
def test_a_supervisor_that_changes(facts: dict[str, Any], reason: str) -> None:
    assert found(tree(**facts), DEFAULT) == [reason]


def test_children_that_come_and_go_below_a_supervisor_that_does_not_mind() -> None:
    assert found(tree(start=["a"], stop=["b"], reordered=True), DEFAULT) == []


def test_every_detail_of_a_plan_is_part_of_its_result() -> None:
    assert describe(comparison()).keys() <= set(PlanResult.__struct_fields__)
