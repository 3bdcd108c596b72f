"""Settings: what is stored comes back, what cannot be is refused by name."""

from __future__ import annotations

import contextlib
import re

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling.errors import InvalidInput
from gatling.project.settings import (
    EXPECTED,
    Build,
    Deploy,
    Health,
    Hot,
    Instance,
    Migrate,
    Releases,
    Settings,
    describe,
    parse,
)
from tests.scale import scaled

EXAMPLES = settings(max_examples=scaled(30, 100))

SECONDS = st.floats(0.01, 86400)
VALID = st.builds(
    Settings,
    deploy=st.builds(
        Deploy,
        branch=st.from_regex(
            r"([A-Za-z0-9_][A-Za-z0-9_-]{0,20}(/[A-Za-z0-9_]{1,20})?)?", fullmatch=True
        ),
        strategy=st.sampled_from(["auto", "rolling", "restart"]),
    ),
    hot=st.builds(
        Hot,
        watch=SECONDS,
        suspend=SECONDS,
        boot_check=st.sampled_from(["after", "before", "off"]),
        rehearse=st.booleans(),
        structs=st.booleans(),
        deny=st.from_regex(r"[A-Za-z0-9_., ]{0,100}", fullmatch=True),
    ),
    build=st.builds(
        Build,
        timeout=SECONDS,
        release=st.from_regex(r"([a-z][a-zA-Z0-9_]{0,127})?", fullmatch=True),
    ),
    health=st.builds(
        Health,
        path=st.from_regex(r"/[!-~]{0,200}", fullmatch=True),
        timeout=SECONDS,
        interval=SECONDS,
    ),
    migrate=st.builds(
        Migrate,
        command=st.from_regex(r"""[ -!#-&(-[\]-~]{0,100}""", fullmatch=True),
        timeout=SECONDS,
        rehearse=st.booleans(),
    ),
    instance=st.builds(Instance, drain=st.floats(0, 86400), stop=st.floats(1, 3600)),
    releases=st.builds(Releases, keep=st.integers(1, 1000)),
)


@EXAMPLES
@given(VALID)
def test_what_is_described_can_be_parsed(wanted: Settings) -> None:
    texts = {key: str(value) for key, value in describe(wanted).items()}
    assert parse(texts) == wanted


def test_without_settings_all_are_at_their_defaults() -> None:
    assert (
        describe(parse({})).items()
        >= {
            "deploy.branch": "",
            "build.timeout": 1800.0,
            "build.release": "",
            "health.path": "/",
            "health.timeout": 60.0,
            "health.interval": 0.02,
            "migrate.command": "auto",
            "migrate.timeout": 600.0,
            "migrate.rehearse": False,
            "instance.drain": 10.0,
            "instance.stop": 30.0,
            "releases.keep": 10,
            "deploy.strategy": "auto",
            "hot.boot_check": "after",
            "stats.telemetry": True,
            "alerts.errors": 5.0,
            "alerts.latency": 1000,
            "alerts.quiet": "",
            "hot.rehearse": False,
            "hot.rerender": True,
            "hot.structs": False,
        }.items()
    )


def test_one_setting_leaves_the_others_alone() -> None:
    changed = parse({"health.path": "/up?full=1"})
    assert describe(changed) == describe(Settings()) | {"health.path": "/up?full=1"}


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("helth.path", "health.path"),
        ("health.tmeout", "health.timeout"),
        ("health.path.x", "health.path"),
        ("schedule.report.corn", "schedule.report.cron"),
        ("Health.path", "health.path"),
        ("HEALTH.TIMEOUT", "health.timeout"),
        ("processes.worker", "processes.worker.command"),
        ("keep", "releases.keep"),
        ("colour", ""),
        ("processes.worker.colour", ""),
        ("", ""),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(key: str, meant: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse({key: "1"})
    assert caught.value.what == f"There is no setting {key!r}."
    assert len(caught.value.hint) < 100  # not all that there are
    if meant:
        assert caught.value.hint == f"Did you mean {meant}?"


@pytest.mark.parametrize(
    ("key", "text", "what"),
    [
        ("health.timeout", "99999999", ": expected a number of at most 86400, got '99999999'."),
        ("health.timeout", "abc", ": expected a number, got 'abc'."),
        ("health.timeout", "-1", ": expected a number of at least 0.01, got '-1'."),
        ("releases.keep", "1.5", ": expected an integer, got '1.5'."),
        ("hot.rehearse", "maybe", ": expected true or false, got 'maybe'."),
        ("health.path", "up", ": expected a path such as /health, got 'up'."),
        (
            "health.path",
            "/" + "a" * 2000,
            ": expected a string of at most 1024 characters, got '/aaa",
        ),
        ("deploy.strategy", "x", ": expected one of auto, "),
        ("schedule.report.cron", "x", "schedule.report.cron: not five fields"),
        ("processes.web.command", "x", "'web' cannot be a name in processes: "),
    ],
)
def test_a_value_that_does_not_fit_is_told_in_words(key: str, text: str, what: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse({"health.interval": "1", key: text})
    assert what in caught.value.what
    assert len(caught.value.what) < 200
    assert not re.search("`|regex|float|bool", caught.value.what)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("health.timeout", "soon"),
        ("health.timeout", ""),
        ("health.timeout", "0"),
        ("health.timeout", "-1"),
        ("health.timeout", "86401"),
        ("health.timeout", "nan"),
        ("health.timeout", "inf"),
        ("health.timeout", "60 s"),
        ("health.interval", "0"),
        ("build.timeout", "1e9"),
        ("instance.drain", "-0.1"),
        ("instance.drain", "nan"),
        ("instance.stop", "0.5"),
        ("instance.stop", "3601"),
        ("releases.keep", "0"),
        ("releases.keep", "1001"),
        ("releases.keep", "2.5"),
        ("releases.keep", "all"),
        ("health.path", ""),
        ("health.path", "up"),
        ("health.path", "/two words"),
        ("health.path", "/a\r\nX-Other: 1"),
        ("health.path", "/ü"),
        ("health.path", "/" + "a" * 1024),
        ("build.release", "Shop"),
        ("build.release", "shop web"),
        ("build.release", "--force"),
        ("build.release", "a" * 129),
        ("deploy.branch", "-x"),
        ("deploy.branch", "main;"),
        ("deploy.branch", "a b"),
        ("deploy.branch", "a" * 201),
        ("deploy.strategy", "hot"),
        ("deploy.strategy", ""),
        ("hot.watch", "0"),
        ("hot.boot_check", "never"),
        ("hot.deny", "shop;plug"),
    ],
)
def test_what_is_out_of_range_or_of_another_kind_is_refused(key: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse({"health.path": "/ok", key: text})
    assert key in caught.value.what


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("instance.drain", "0", 0),
        ("instance.stop", "1", 1),
        ("health.timeout", "0.01", 0.01),
        ("health.timeout", "86400", 86400),
        ("releases.keep", "1000", 1000),
        ("deploy.branch", "release/2026-01", "release/2026-01"),
    ],
)
def test_limits_are_within(key: str, text: str, value: object) -> None:
    assert describe(parse({key: text}))[key] == value


@EXAMPLES
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4))
@example({"health": "x"})
@example({"health": "x", "health.path": "/"})
def test_any_texts_are_taken_or_refused_with_a_reason(values: dict[str, str]) -> None:
    with contextlib.suppress(InvalidInput):  # and nothing else
        taken = describe(parse(values))
        assert set(values) <= set(taken)


def test_the_branches_that_deploy() -> None:
    assert parse({}).branches == ("main", "master")
    assert parse({"deploy.branch": "production"}).branches == ("production",)
    assert parse({"deploy.branch": ""}).branches == ("main", "master")


def test_each_pattern_has_words() -> None:
    models = msgspec.json.schema(Settings)["$defs"].values()
    fields = [field for model in models for field in model["properties"].values()]
    assert {field["pattern"] for field in fields if "pattern" in field} == EXPECTED.keys()
    with pytest.raises(InvalidInput) as caught:
        parse({"limits.cpu": "half"})
    assert "limits.cpu: expected a percentage such as 150%, or nothing" in caught.value.what
