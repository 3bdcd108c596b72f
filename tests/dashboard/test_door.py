"""The link, the cookie, and requests that are not let in."""

from __future__ import annotations

import pytest

from gatling.dashboard.door import COOKIE, LINK_SECONDS, Door, Shut


def let_in(door: Door) -> dict[str, str]:
    header = door.enter(door.path.rpartition("/")[2])
    name, _, value = header.partition(";")[0].partition("=")
    return {name: value}


def test_the_link_works_once() -> None:
    door = Door(8099)
    key = door.path.rpartition("/")[2]
    header = door.enter(key)
    assert header.startswith(f"{COOKIE}=")
    assert header.endswith(f"; Path={door.base}/; HttpOnly; SameSite=Strict")
    with pytest.raises(Shut, match="only once"):
        door.enter(key)


def test_the_link_expires() -> None:
    now = 0.0
    door = Door(8099, lambda: now)
    now = LINK_SECONDS + 1
    with pytest.raises(Shut, match="expired"):
        door.enter(door.path.rpartition("/")[2])


@pytest.mark.parametrize("key", ["", "x", "é", "a" * 10_000])
def test_another_key_is_refused_and_leaves_the_link_as_it_was(key: str) -> None:
    door = Door(8099)
    with pytest.raises(Shut, match="not valid"):
        door.enter(key)
    assert let_in(door)


def test_no_two_runs_have_the_same_path_key_or_token() -> None:
    one, other = Door(1), Door(1)
    assert one.base != other.base
    assert one.token != other.token
    with pytest.raises(Shut):
        other.check_cookie(let_in(one))


@pytest.mark.parametrize(
    "hosts",
    [[], ["evil.example"], ["127.0.0.1"], ["127.0.0.1:8098"], ["localhost:8099"],
     ["127.0.0.1:8099", "127.0.0.1:8099"], ["127.0.0.1:8099.evil.example"]],
)  # fmt: skip
def test_a_request_for_another_host_is_refused(hosts: list[str]) -> None:
    door = Door(8099)
    door.check_place(["127.0.0.1:8099"])
    with pytest.raises(Shut):
        door.check_place(hosts)


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
     {"origin": "http://127.0.0.1:4000"}, {"origin": "null"},
     {"origin": "http://127.0.0.1:8099.evil.example"},
     {"sec-fetch-site": "same-origin", "sec-fetch-dest": "iframe"}],
)  # fmt: skip
def test_a_request_of_another_page_is_refused(headers: dict[str, str]) -> None:
    door = Door(8099)
    door.check_source({"sec-fetch-site": "same-origin", "origin": door.origin})
    door.check_source({"sec-fetch-site": "none", "sec-fetch-dest": "document"})
    with pytest.raises(Shut):
        door.check_source(headers)


@pytest.mark.parametrize("cookies", [{}, {COOKIE: ""}, {COOKIE: "x"}, {COOKIE: "é"}])
def test_without_the_cookie_nobody_is_let_in(cookies: dict[str, str]) -> None:
    door = Door(8099)
    with pytest.raises(Shut):
        door.check_cookie(cookies)
    door.check_cookie(let_in(door))
    with pytest.raises(Shut):
        door.check_cookie(cookies)


def test_a_form_needs_its_token_and_the_origin() -> None:
    door = Door(8099)
    door.check_form({"origin": door.origin}, door.token)
    for headers, token in (
        ({}, door.token), ({"origin": "null"}, door.token), ({"origin": door.origin}, ""),
        ({"origin": door.origin}, "é"),
    ):  # fmt: skip
        with pytest.raises(Shut):
            door.check_form(headers, token)
