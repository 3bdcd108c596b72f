"""What `gatling server check` says of certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gatling.host import expiry
from gatling.proxy import certificates
from gatling.proxy.certificates import Certificate
from gatling.state.apps import App
from gatling.state.issuance import Issuance

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86400


def app(name: str, *domains: str) -> App:
    nothing: Any = None
    return App(name, "", "running", nothing, nothing, {}, domains, {}, {})


@pytest.mark.parametrize(
    ("life", "passed", "said"),
    [
        (90, 10, []), (90, 75.5, []), (90, 77, ["expires on 1970-04-01"]),
        (90, 91, ["expired on 1970-04-01"]), (6, 3.9, []), (6, 4.1, ["expires on 1970-01-07"]),
    ],
)  # fmt: skip
def test_one_that_ends_is_named_in_time(
    tmp_path: Path, life: float, passed: float, said: list[str]
) -> None:
    one = Certificate(
        id="a" * 32, names=("a.example", "b.example"), issuer="CA", not_before=0, added=0,
        not_after=int(life * DAY), key="RSA 2048", self_signed=False, alone=False,
    )  # fmt: skip
    certificates.add(tmp_path, "shop", one, b"", b"")
    every = [app("blog", "blog.example"), app("shop", "a.example", "b.example", "c.example")]
    found = list(expiry.faults(every, tmp_path, passed * DAY))
    assert [what for what, _ in found] == [
        f"The certificate of a.example, b.example {text}." for text in said
    ]
    assert all("gatling certificates add shop" in hint for _, hint in found)


def test_one_that_serves_nothing_is_nobodys_worry(tmp_path: Path) -> None:
    old = Certificate(
        id="a" * 32, names=("a.example",), issuer="CA", not_before=0, not_after=DAY, added=1,
        key="RSA 2048", self_signed=False, alone=False,
    )  # fmt: skip
    certificates.add(tmp_path, "shop", old, b"", b"")
    assert list(expiry.faults([app("shop", "b.example")], tmp_path, 2 * DAY)) == []


def test_an_attempt_that_failed_is_named_with_the_next_one() -> None:
    failed = Issuance(app="shop", failures=2, error="shop.example does not resolve.",
                      hint="Add an A record.", retry_at=DAY)  # fmt: skip
    assert list(expiry.failures([Issuance(app="blog"), failed])) == [
        ("shop has no new certificate: shop.example does not resolve.",
         "Add an A record. The next attempt is at 1970-01-02T00:00:00.000Z.")
    ]  # fmt: skip
