"""Alerts begin above one bound, end below another, and say nothing of what is not known."""

from __future__ import annotations

from msgspec import structs

from gatling.operations.alerts import RULES, Facts, described, judged
from gatling.project.settings import Alerts
from gatling.state.samples import Sample

OK = Sample(
    seconds=10, up=10, classes=[0, 100, 0, 0, 0], ranges=[100] + [0] * 11, memory=50,
    node_memory=40, processes=100, run_queue=0,
)  # fmt: skip


def answers(
    recent: list[Sample],
    *on: str,
    usual: float | None = 20,
    limit: int | None = 100,
    bounds: Alerts = Alerts(),  # noqa: B008 (frozen)
) -> dict[str, bool]:
    facts = Facts(recent, 10, usual, limit, 2, bounds)
    return {one.rule: one.on for one in judged(facts, dict.fromkeys(on))}


def all_like(**given: object) -> list[Sample]:
    return [structs.replace(OK, **given) for _ in range(30)]


def test_an_app_that_is_well() -> None:
    assert answers(all_like(messages=3)) == dict.fromkeys(RULES, False)
    assert answers(all_like(messages=3), *RULES) == dict.fromkeys(RULES, False)


def test_errors() -> None:
    bad, better = all_like(classes=[0, 95, 0, 0, 5]), all_like(classes=[0, 97, 0, 0, 3])
    assert answers(bad)["errors"]
    assert not answers(better)["errors"]
    assert answers(better, "errors")["errors"]
    assert not answers(all_like(classes=[0, 99, 0, 0, 1]), "errors")["errors"]


def test_few_requests_begin_no_alert() -> None:
    few = [structs.replace(OK, classes=[0, 0, 0, 0, 4], ranges=[4] + [0] * 11)]
    assert "errors" not in answers(few)
    assert not answers([*few, structs.replace(OK, classes=[0, 20, 0, 0, 0])])["errors"]


def test_an_alert_ends_when_nobody_asks_any_more() -> None:
    silent = all_like(classes=[0] * 5, ranges=[0] * 12)
    assert answers(silent, "errors", "latency")["errors"] is False
    assert answers(silent, "errors", "latency")["latency"] is False


def test_latency_against_what_is_usual() -> None:
    slow = [0] * 8 + [100] + [0] * 3  # up to 2.5 s
    assert answers(all_like(ranges=slow))["latency"]
    assert not answers(all_like(ranges=slow), usual=1500)["latency"]
    assert "latency" not in answers(all_like(ranges=slow), usual=None)
    medium = [0] * 7 + [100] + [0] * 4  # up to 1 s: below the bound at which it begins
    assert not answers(all_like(ranges=medium))["latency"]
    assert answers(all_like(ranges=medium), "latency")["latency"]


def test_memory_near_its_limit() -> None:
    assert answers(all_like(memory=91))["memory"]
    once = [*all_like(memory=91)[1:], structs.replace(OK, memory=80)]
    assert not answers(once)["memory"]
    assert answers(all_like(memory=87), "memory")["memory"]
    assert not answers(all_like(memory=84), "memory")["memory"]
    assert "memory" not in answers(all_like(memory=91), limit=None)


def test_run_queues() -> None:
    assert answers(all_like(run_queue=8))["run_queue"]
    assert not answers([*all_like(run_queue=8), OK])["run_queue"]
    assert answers(all_like(run_queue=5), "run_queue")["run_queue"]
    assert not answers(all_like(run_queue=3), "run_queue")["run_queue"]


def test_queues_of_messages_are_looked_at_once_a_minute() -> None:
    def looks(*numbers: int) -> list[Sample]:
        every = all_like()
        for at, number in zip(range(5, 30, 6), numbers, strict=False):
            every[at] = structs.replace(OK, messages=number)
        return every

    assert not answers(looks(0, 0, 0, 0, 20_000))["messages"]
    assert answers(looks(0, 0, 0, 15_000, 20_000))["messages"]
    assert answers(looks(0, 0, 0, 6000, 7000), "messages")["messages"]
    assert not answers(looks(0, 0, 0, 6000, 100), "messages")["messages"]
    assert "messages" not in answers(looks(20_000))


def test_what_is_not_known_begins_and_ends_nothing() -> None:
    assert answers([]) == {}
    assert answers([], *RULES) == {}
    down = all_like(up=0, memory=0, node_memory=0, run_queue=-1)
    assert {*answers(down)} == {"errors", "latency"}


def test_bounds_are_settings() -> None:
    some = all_like(classes=[0, 97, 0, 0, 3], ranges=[0] * 6 + [100] + [0] * 5, memory=81)
    some = [structs.replace(each, run_queue=4, messages=600) for each in some]  # 2 a scheduler
    assert answers(some) == dict.fromkeys(RULES, False)
    low = Alerts(errors=3, latency=300, memory=80, run_queue=2, messages=500)
    assert answers(some, bounds=low) == dict.fromkeys(RULES, True)
    assert not answers(some, usual=400, bounds=low)["latency"]
    assert answers(some, usual=400, bounds=structs.replace(low, latency_ratio=1))["latency"]
    assert answers(some, usual=None, bounds=structs.replace(low, latency_ratio=0))["latency"]


def test_an_alert_that_is_turned_off_ends_and_begins_no_more() -> None:
    off = Alerts(errors=0, latency=0, memory=0, run_queue=0, messages=0)
    bad = all_like(classes=[0, 0, 0, 0, 100], memory=100, run_queue=100, messages=100_000)
    assert answers(bad, bounds=off) == {}
    assert answers(bad, *RULES, bounds=off) == dict.fromkeys(RULES, False)
    assert all(one.off for one in judged(Facts(bad, 10, 20, 100, 2, off), {"errors": ""}))
    assert described(off) == {}
    assert list(described(Alerts())) == list(RULES)
