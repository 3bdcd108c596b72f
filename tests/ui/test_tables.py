"""Tables and fields in a terminal of any width."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gatling.ui import tables
from gatling.ui.tables import Columns, field, fitted, lines, shortened, width

APPS = Columns(
    ("app", "state", "commit", "url"),
    (
        ("shop", "running (1 restart: killed by SIGKILL)", "Show prices", "http://shop.localhost"),
        ("blog", "stopped", "–", "http://blog.localhost"),
    ),
)
TEXT = st.text(alphabet="ab 漢é́🙂", max_size=30)


def shown(room: int, cut: tuple[str, ...] = (), drop: tuple[str, ...] = ()) -> list[str]:
    return lines(fitted(APPS, room, cut, drop))


def test_what_fits_is_not_changed() -> None:
    assert fitted(APPS, 120) == APPS
    assert fitted(APPS, width(lines(APPS)[1])) == APPS


def test_the_columns_that_may_be_cut_are_cut_first() -> None:
    assert shown(62, cut=("state", "commit")) == [
        "app   state                 commit       url",
        "shop  running (1 restart:…  Show prices  http://shop.localhost",
        "blog  stopped               –            http://blog.localhost",
    ]


def test_then_columns_are_left_out() -> None:
    assert shown(44, cut=("state",), drop=("commit", "url")) == [
        "app   state            url",
        "shop  running (1 res…  http://shop.localhost",
        "blog  stopped          http://blog.localhost",
    ]
    assert shown(20, cut=("state",), drop=("commit", "url")) == [
        "app   state",
        "shop  running (1 re…",
        "blog  stopped",
    ]


def test_empty_columns_are_left_out_first() -> None:
    columns = Columns(("app", "waiting", "url"), (("shop", "–", "http://shop.localhost"),))
    found = fitted(columns, 30, drop=("url", "waiting"))
    assert lines(found) == ["app   url", "shop  http://shop.localhost"]


def test_what_is_still_too_wide_is_cut() -> None:
    assert shown(30) == [
        "app   state   commit   url",
        "shop  runni…  Show p…  http:/…",
        "blog  stopp…  –        http:/…",
    ]


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=4), st.integers(20, 130))
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, str, str]], room: int) -> None:
    columns = Columns(("one", "two", "three"), tuple(rows))
    found = lines(fitted(columns, room, cut=("two",), drop=("three",)))
    assert all(width(line) <= room for line in found)


def test_the_width_of_a_text() -> None:
    assert (width("shop"), width("漢字"), width("e\u0301"), width("🙂"), width("")) == (
        4,
        4,
        1,
        2,
        0,
    )
    assert shortened("漢字漢字", 6) == "漢字…"
    assert shortened("a long name", 6) == "a lon…"
    assert shortened("a name", 6) == "a name"


def test_a_long_field_goes_on_below_its_beginning() -> None:
    assert field("domains", "a.example.com, b.example.com", 40) == [
        "domains          a.example.com,",
        "                 b.example.com",
    ]
    assert field("push to", "/a/path/that/is/longer/than/the/terminal", 40) == [
        "push to          /a/path/that/is/longer/than/the/terminal"
    ]
    for room in (None, tables.LABEL):
        assert field("domains", "a, b", room) == ["domains          a, b"]
    assert field("state", "", 80) == ["state            "]
