"""How a release becomes the live one, and the reasons that are given."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatling.beam.comparison import AddedApp, Beam, Comparison, Removed, TreeChange
from gatling.deploy.plan.obstacles import recorded
from gatling.deploy.plan.plan import WISHES, Facts, Plan, Strategy, beside, decide, plan, simple
from gatling.errors import InvalidInput
from gatling.project.settings import Hot, Settings
from gatling.state.releases import Release

VARIABLES = st.dictionaries(st.sampled_from("ABCDE"), st.sampled_from(["", "1", "2"]))


def release(number: int, **changes: Any) -> Release:
    facts: dict[str, Any] = {
        "app": "shop", "number": number, "origin": "build", "base": None, "commit": "a" * 40,
        "name": "shop", "version": "0.1.0", "elixir": "1.18.0", "otp": "27.2",
        "config": {"A": "1", "B": "1"}, "bytes": 0, "created_at": "", "removed_at": None,
    }  # fmt: skip
    return Release(**facts | changes)


def beam(module: str, app: str = "shop", **more: Any) -> Beam:
    return Beam(module, app=app, old=Beam(module, app=app), **more)


@pytest.mark.parametrize("wish", ["auto", "rolling", "restart"])
def test_the_first_release_is_started(wish: str) -> None:
    assert simple(None, release(1), wish) == Plan("start", ("nothing is live yet",))


@pytest.mark.parametrize(("wish", "strategy"), [("auto", "rolling"), ("restart", "restart")])
def test_the_live_release_is_started_anew(wish: str, strategy: Strategy) -> None:
    assert simple(release(1), release(1), wish) == Plan(strategy, ("v1 is restarted",))


@pytest.mark.parametrize("strategy", ["rolling", "restart"])
@pytest.mark.parametrize(
    ("target", "reasons"),
    [
        (release(2), ("v1 → v2",)),
        (release(2, version="0.2.0"), ("version 0.1.0 → 0.2.0",)),
        (release(2, commit="b" * 40), (f"commit {'a' * 9} → {'b' * 9}",)),
        (
            release(2, version="0.2.0", commit="b" * 40),
            ("version 0.1.0 → 0.2.0", f"commit {'a' * 9} → {'b' * 9}"),
        ),
    ],
)
def test_what_is_asked_for_is_done(
    strategy: Strategy, target: Release, reasons: tuple[str, ...]
) -> None:
    assert simple(release(1), target, strategy) == Plan(strategy, ("as requested", *reasons))


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"name": "web"}, ("a different OTP release: shop → web",)),
        ({"elixir": "1.19.0"}, ("Elixir 1.18.0 → 1.19.0",)),
        ({"otp": "27.3"}, ("OTP 27.2 → 27.3",)),
        ({"config": {"A": "2", "C": "1"}}, ("config changes: A, B, C",)),
        (
            {"elixir": "1.19.0", "otp": "28.0", "config": {"A": "1"}},
            ("Elixir 1.18.0 → 1.19.0", "OTP 27.2 → 28.0", "config changes: B"),
        ),
    ],
)
def test_what_the_records_tell_against_a_hot_upgrade(
    changes: dict[str, Any], reasons: tuple[str, ...]
) -> None:
    live, target = release(1), release(2, commit="b" * 40, **changes)
    assert simple(live, target) == Plan("rolling", reasons)
    with pytest.raises(InvalidInput, match="A hot upgrade is not possible") as caught:
        simple(live, target, "hot")
    assert "; ".join(reasons) in caught.value.what


@pytest.mark.parametrize("wish", ["auto", "hot"])
def test_where_the_records_do_not_decide_the_node_is_asked(wish: str) -> None:
    assert simple(release(1), release(2, version="0.2.0", commit="b" * 40), wish) is None


@pytest.mark.parametrize(
    ("live", "target", "why"),
    [(None, release(1), "No release is live"), (release(1), release(1), "v1 is already live")],
)
def test_hot_needs_something_to_upgrade(live: Release | None, target: Release, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        simple(live, target, "hot")


@pytest.mark.parametrize("live", [None, release(1)])
@pytest.mark.parametrize("wish", ["", "cold", "Hot", "start"])
def test_a_strategy_that_there_is_not(live: Release | None, wish: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        simple(live, release(2), wish)
    assert repr(wish) in caught.value.what
    assert all(known in caught.value.hint for known in WISHES)


def test_every_strategy_but_start_can_be_wished_for() -> None:
    assert {*get_args(Strategy)} - {"start"} == {*WISHES} - {"auto"}


def test_hot_when_nothing_stands_in_its_way() -> None:
    comparison = Comparison(
        erts="same",
        changed=[beam("Elixir.Shop.Cart"), beam("Elixir.Shop.Page"), beam("plug", "plug")],
        added=[Beam("Elixir.Shop.New", app="shop")],
        removed=[Removed("Elixir.Shop.Old", "shop")],
        apps_added=[AddedApp("mailer", runtime=False)],
        processes=[("Elixir.Shop.Cart", 3), ("Elixir.Shop.Page", 0)],
        env=[("shop", ":limit", "delivered")],
        assets=["shop"],
        trees=[TreeChange("shop", start=["cache"], stop=["queue"])],
    )
    for wish in ("auto", "hot"):
        plan = decide(comparison, wish, Hot())
        assert plan.strategy == "hot"
        assert plan.reasons == (
            "plug: 1 changed module",
            "shop: 2 changed modules, 1 added module (Shop.New), 1 removed module (Shop.Old)",
            "3 processes to convert",
            "starts cache",
            "stops queue",
            "starts mailer",
            "config of shop: :limit",
            "a process that read config at its start keeps the old values",
            "files in priv of shop",
        )
    assert plan.details["added"] == [{"app": "shop", "module": "Shop.New"}]
    assert plan.details["processes"][0] == {"module": "Shop.Cart", "count": 3}


def test_what_mix_consolidates_is_nobodys_code() -> None:
    at = "/releases/0.1.0/consolidated/Elixir.Enumerable.beam"
    comparison = Comparison(erts="same", changed=[Beam("Enumerable", app="elixir", file=at)])
    assert decide(comparison, "auto", Hot()).reasons == ("protocols: 1 changed module",)


def test_a_few_of_many_modules_are_named() -> None:
    comparison = Comparison(erts="same", added=[Beam(f"Elixir.M{n}", app="shop") for n in range(5)])
    reasons = ("shop: 5 added modules (M0, M1, M2 and 2 more)",)
    assert decide(comparison, "auto", Hot()).reasons == reasons


def test_what_may_differ_from_a_fresh_boot_is_accepted_only_when_hot_is_asked_for() -> None:
    comparison = Comparison(erts="same", overlays=["data/prices.txt"])
    caution = "data/prices.txt changed, and a process may have read it when it started"
    plan = decide(comparison, "auto", Hot())
    assert (plan.strategy, plan.reasons) == ("rolling", (caution,))
    plan = decide(comparison, "hot", Hot())
    assert plan.strategy == "hot"
    assert plan.reasons == ("no code changes", f"as requested, although {caution}")


def test_hot_without_any_change_of_code() -> None:
    assert decide(Comparison(erts="same"), "auto", Hot()).reasons == ("no code changes",)


def test_rolling_with_everything_that_stands_in_the_way() -> None:
    comparison = Comparison(erts="same", boot_files=["vm.args"], apps_removed=["mailer"])
    reasons = ("vm.args changed, which is read at boot", "the application mailer is removed")
    plan = decide(comparison, "auto", Hot())
    assert (plan.strategy, plan.reasons) == ("rolling", reasons)
    with pytest.raises(InvalidInput, match="not possible") as caught:
        decide(comparison, "hot", Hot())
    assert "; ".join(reasons) in caught.value.what
    assert "auto" in caught.value.hint


@given(VARIABLES, VARIABLES)
def test_variables_that_change_are_named_and_never_shown(
    before: dict[str, str], after: dict[str, str]
) -> None:
    def hidden(values: dict[str, str]) -> dict[str, str]:
        return {name: f"hidden{value}" for name, value in values.items()}

    live, target = release(1, config=hidden(before)), release(2, config=hidden(after))
    reasons = recorded(live, target)
    changed = sorted(
        name
        for name in "ABCDE"
        if (name in before, before.get(name)) != (name in after, after.get(name))
    )
    assert reasons == ([f"config changes: {', '.join(changed)}"] if changed else [])
    assert "hidden" not in str(simple(live, target))


@pytest.mark.parametrize("strategy", ["start", "restart"])
def test_where_nothing_runs_beside_the_live_one_nothing_changes(strategy: Strategy) -> None:
    assert beside(Plan(strategy, ("as it is",)), ("held",)) == Plan(strategy, ("as it is",))


def test_where_no_second_one_may_run_rolling_becomes_restart() -> None:
    rolling = Plan("rolling", ("struct",), {"changed": []})
    assert beside(rolling, ()) == rolling
    expected = Plan("restart", ("struct", "not rolling: held"), {"changed": []}, ("held",))
    assert beside(rolling, ("held",)) == expected
    assert beside(Plan("hot", ("1 module",)), ("held",)) == Plan(
        "hot", ("1 module",), {}, ("held",)
    )


SAME = Comparison("same")


def facts(**more: Any) -> Facts:
    known: dict[str, Any] = {
        "live": release(1),
        "target": release(2, commit="b" * 40),
        "settings": Settings(),
    }
    return Facts(**known | more)


def test_a_plan_says_all_that_a_deployment_will_do() -> None:
    migration = "shop/repo/1_a.exs"
    decided = plan(facts(comparison=SAME, migrations=(migration,), domains=("a",)))
    assert decided.strategy == "hot"
    assert (decided.migrations, decided.domains) == ((migration,), ("a",))
    assert decided.assets
    assert decided.requested == "auto"


def test_without_the_node_it_is_rolling_and_says_why() -> None:
    assert plan(facts(unknown="shop is not running.")).reasons == ("shop is not running.",)
    with pytest.raises(InvalidInput, match=r"not possible: shop is not running"):
        plan(facts(unknown="shop is not running.", requested="hot"))


def test_the_plan_that_follows_a_refusal() -> None:
    decided = plan(facts(comparison=SAME))
    rolled = decided.instead("rolling", "a process is busy")
    assert (rolled.strategy, rolled.reasons) == ("rolling", ("a process is busy",))
    alone = plan(facts(comparison=SAME, alone=("v1 has a DETS file open",)))
    restarted = alone.instead("rolling", "a process is busy")
    assert restarted.strategy == "restart"
    assert restarted.reasons == ("a process is busy", "not rolling: v1 has a DETS file open")
    asked = plan(facts(comparison=SAME, requested="hot"))
    with pytest.raises(InvalidInput, match="a process is busy"):
        asked.instead("rolling", "a process is busy")


@pytest.mark.parametrize("wish", ["auto", "rolling"])
def test_a_release_that_still_runs_is_switched_to(wish: str) -> None:
    decided = plan(facts(ready=True, requested=wish, comparison=Comparison("same")))
    assert (decided.strategy, decided.reasons) == (
        "rolling",
        (f"{facts().target.label} is still running",),
    )


@pytest.mark.parametrize("wish", ["hot", "restart"])
def test_another_strategy_may_be_asked_for_all_the_same(wish: str) -> None:
    decided = plan(facts(ready=True, requested=wish, comparison=Comparison("same")))
    assert decided.strategy == wish
