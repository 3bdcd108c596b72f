"""The shapes of a request's arguments: whatever is given is refused, or is what it should be."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling.platform.limits import Limits
from gatling.platform.server import units
from gatling.platform.server.helper import shapes
from gatling.platform.server.helper.shapes import MAX_WORDS, Refused
from tests.scale import scaled

EXAMPLES = settings(max_examples=scaled(75, 300))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)
HOSTILE = st.sampled_from(
    [
        "", " ", "\n", "\0", "%", "%i", "%%", "$", "$(id)", "`id`", "'", '"', "\\", "..", "../..",
        "/", "-", "--", "--help", "-p", "*", "?", "[a]", "a\nb", "shop\n", "shop\0", "\nshop",
        "shop.1", "shop/..", "SHOP", "sh op", "-shop", "shop-", "shop@1", "gatling@shop.1.service",
        "*.service", "\xe9", "\u0663", "\uff11", "\xb2", "\u2177", "x" * 64, "x" * 256,
        "x" * 100_000, "\udcff", "\ud800", "100%\nUser=root", "1G\n", "1G ", "\u0661G", "1e3",
        "0x10", "-1", "+1", "1.5", "nan", "infinity", "1;2", "{}", "\u202e", "\u2028", "\x1b[0m",
        "shop;", "shop#", "true",
    ]
)  # fmt: skip
ANY = HOSTILE | JSON


@EXAMPLES
@given(ANY)
def test_a_text_is_short_and_has_no_nul(value: Any) -> None:
    try:
        found = shapes.text({"key": value}, "key")
    except Refused:
        assert not isinstance(value, str) or "\0" in value or len(value) > 255
    else:
        assert found == value
        assert isinstance(value, str)
        assert "\0" not in value


def test_what_is_missing_is_refused() -> None:
    for call in (
        lambda: shapes.text({}, "key"),
        lambda: shapes.number({}, "key", 0, 1),
        lambda: shapes.slot({}),
        lambda: shapes.program({}, Path("/srv")),
    ):
        with pytest.raises(Refused):
            call()


@EXAMPLES
@given(ANY | st.integers(-5, 25) | st.floats(-5, 25))
@example(math.nan)
@example(math.inf)
@example(-math.inf)
@example(True)
@example(10**400)
@example(0)
@example(20)
@example(-0.0)
def test_a_number_is_finite_and_between_its_limits(value: Any) -> None:
    try:
        found = shapes.number({"key": value}, "key", 0, 20)
    except Refused:
        assert type(value) not in (int, float) or not 0 <= value <= 20
    else:
        assert type(value) in (int, float)
        assert 0 <= found <= 20
        assert re.fullmatch(r"[0-9]+\.[0-9]{3}", f"{found + 0:.3f}")


@EXAMPLES
@given(ANY | st.integers(-1, 4) | st.floats(0, 3))
@example(True)
@example(1.0)
@example("1")
@example("worker.1")
@example("worker.1\n")
@example("worker.0")
@example("Worker.1")
@example("worker.1.1")
@example("../worker.1")
@example("w" * 32 + ".1")
@example("worker.\u0661")
def test_a_slot_is_one_or_two_or_a_processs(value: Any) -> None:
    process = isinstance(value, str) and re.fullmatch(
        r"[a-z][a-z0-9_-]{0,30}\.[1-9][0-9]?", value, re.ASCII
    )
    own = type(value) is int and value in (1, 2)
    request = {"slot": value, "slots": [value]}
    if own or process:
        assert shapes.slot(request) == value
        assert shapes.slots(request) == [value]
    else:
        with pytest.raises(Refused):
            shapes.slot(request)
        with pytest.raises(Refused):
            shapes.slots(request)
    if process:
        assert shapes.process_slot(request) == value
    else:
        with pytest.raises(Refused):
            shapes.process_slot(request)


@EXAMPLES
@given(ANY)
@example([])
@example([1] * 10_000)
def test_slots_are_a_list_of_some(value: Any) -> None:
    if value in ([1], [2], [1, 2], [2, 1]):
        return
    with pytest.raises(Refused):
        shapes.slots({"slots": value})


AMOUNT = HOSTILE | st.from_regex(r"[0-9]{0,14}[KMGT%]?\n?", fullmatch=True) | JSON
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "memory": AMOUNT,
        "tasks": st.integers() | st.integers(0, 4_000_000) | HOSTILE | JSON,
        "cpu": AMOUNT,
    },
)


@settings(EXAMPLES, max_examples=scaled(150, 600))
@given(LIMITS | ANY)
@example({"memory": "75%", "tasks": 4096, "cpu": "150%"})
@example({"memory": "1G\nUser=root"})
@example({"memory": "1G\n"})
@example({"cpu": "1%\n"})
@example({"tasks": True})
@example({"memory": "512M", "other": 1})
def test_limits_become_properties_of_one_line_each(value: Any) -> None:
    try:
        found = shapes.limits({"limits": value})
    except Refused:
        return
    line = re.compile(
        r"MemoryMax=[1-9][0-9]{0,11}[KMGT%]?|MemorySwapMax=0|TasksMax=[1-9][0-9]{0,6}"
        r"|CPUQuota=[1-9][0-9]{0,5}%",
        re.ASCII,
    )
    assert all(line.fullmatch(text) for text in units.limit_properties(found))
    for text in (found.memory, found.cpu):
        assert text == "" or text in value.values()


def test_limits_that_are_meant_are_taken() -> None:
    found = shapes.limits({"limits": {"memory": "75%", "tasks": 9, "cpu": "150%"}})
    assert found == Limits("75%", 9, "150%")
    assert shapes.limits({}) == Limits()


WORDS = st.lists(HOSTILE | st.text(max_size=10) | JSON, max_size=5)
CWD = st.sampled_from(["/srv/apps/shop", "/srv/apps/shop/releases/v1", "/srv/apps/shop/a..b"])
BAD_CWD = st.sampled_from(
    ["/srv/apps/shop2", "/srv/apps", "/", "/srv/apps/shop/../blog", "/srv/apps/shop/..", "..",
     "/srv/apps/shop/x/../../../../etc", "shop", "", "/srv/apps/shop\0/x", "//srv/apps/shop"]
)  # fmt: skip
PROGRAM = st.fixed_dictionaries(
    {
        "argv": st.lists(st.text(max_size=9), min_size=1, max_size=3) | WORDS | ANY,
        "env": st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)
        | st.dictionaries(HOSTILE | st.just("A=B"), ANY, max_size=3)
        | ANY,
        "cwd": CWD | BAD_CWD | ANY,
    },
    optional={"umask": ANY, "empty": ANY, "User": ANY, "nice": st.integers(-20, 20) | ANY},
)


@settings(EXAMPLES, max_examples=scaled(150, 600))
@given(PROGRAM)
@example({"argv": ["a"], "env": {}, "cwd": "/srv/apps/shop", "nice": -1})
@example({"argv": ["a"], "env": {}, "cwd": "/srv/apps/shop", "nice": 19})
@example({"argv": ["a"] * (MAX_WORDS + 1), "env": {}, "cwd": "/srv/apps/shop"})
@example({"argv": ["a"], "env": {}, "cwd": "/srv/apps/shop/../blog"})
@example({"argv": ["a"], "env": {"A=B": "c"}, "cwd": "/srv/apps/shop"})
@example({"argv": ["a"], "env": {"": "c"}, "cwd": "/srv/apps/shop"})
@example({"argv": ["a\0b"], "env": {}, "cwd": "/srv/apps/shop"})
def test_a_program_is_words_texts_and_a_place_within_the_app(value: Any) -> None:
    base = Path("/srv/apps/shop")
    try:
        found = shapes.program(value, base)
    except Refused:
        return
    # what enter.py takes besides these is not the client's to say
    assert found.keys() == {"argv", "env", "cwd"} | ({"nice"} & value.keys())
    assert found.pop("nice", 0) == int(value.get("nice", 0))
    assert 0 <= value.get("nice", 0) <= 19
    assert found == {key: value[key] for key in found}
    assert 0 < len(found["argv"]) <= MAX_WORDS
    assert all(isinstance(word, str) and "\0" not in word for word in found["argv"])
    for key, text in found["env"].items():
        assert key
        assert not {"=", "\0"} & set(key)
        assert isinstance(text, str)
        assert "\0" not in text
    assert os.path.normpath(found["cwd"]).startswith(str(base))
    assert Path(os.path.normpath(found["cwd"])).is_relative_to(base)
    json.dumps(found)


def test_a_program_that_is_meant_is_taken() -> None:
    value = {"argv": ["/bin/x", "--opt", "a\nb"], "env": {"A": "b\n%i$(c)"}, "cwd": "/srv/apps/a"}
    assert shapes.program(value, Path("/srv/apps/a")) == value
