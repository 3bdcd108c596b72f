"""`gatling tokens …`: what is printed once, and what is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform.open import open_gatling
from gatling.state import audit, keys, tokens

if TYPE_CHECKING:
    from tests.cli.conftest import Shell


def test_a_token_is_printed_once_and_alone(shop: Shell) -> None:
    said = shop.run("tokens", "add", "ci", "--role", "deployer", "--app", "shop")
    text = said.out.removesuffix("\n")
    assert text.startswith(tokens.PREFIX)
    assert len(text) == tokens.LENGTH
    assert said.err.startswith("ci was added as deployer, until 20")
    (listed,) = shop.json("tokens", "list")
    assert text not in str(listed)
    assert (listed["name"], listed["role"], listed["apps"]) == ("ci", "deployer", ["shop"])
    assert (listed["expired"], listed["used_at"]) == (False, None)
    until = datetime.fromisoformat(listed["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < until <= timedelta(days=90)
    assert "ci " in shop.run("tokens", "list").out
    with open_gatling() as gatling:
        found = tokens.find(gatling.db, tokens.digest_of(text))
        assert found is not None
        assert found.name == "ci"
        assert tokens.find(gatling.db, tokens.digest_of(text + "x")) is None
        (added,) = (one for one in audit.latest(gatling.db) if one.action == "tokens add")
        assert added.detail == f"ci deployer shop until {listed['expires_at'][:10]}"


def test_a_token_that_is_removed(shop: Shell) -> None:
    made = shop.json("tokens", "add", "board", "--role", "reader", "--expires", "12h")
    assert (made["entry"]["apps"], made["token"][:8]) == (["*"], "gatling_")
    assert shop.run("tokens", "remove", "board").out == "The token board was removed.\n"
    assert shop.run("tokens", "list").out.startswith("No tokens yet.")
    shop.run("tokens", "remove", "board", status=Exit.NOT_FOUND)


@pytest.mark.parametrize(
    "expires", ["0d", "367d", "90", "d", "-1d", "9000h", "1w", "1d\n", "\u0661d"]
)
def test_an_expiry_is_at_most_a_year(shop: Shell, expires: str) -> None:
    said = shop.run(
        "tokens", "add", "ci", "--role", "reader", "--expires", expires, status=Exit.INVALID
    )
    assert "no time until a token expires" in said.err


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["ci"], Exit.USAGE),
        (["ci", "--role", "deployer"], Exit.USAGE),
        (["ci", "--role", "admin", "--app", "shop"], Exit.USAGE),
        (["ci", "--role", "reader", "--app", "No"], Exit.INVALID),
        (["c i", "--role", "reader"], Exit.INVALID),
    ],
)
def test_what_no_token_can_be(shop: Shell, words: list[str], status: Exit) -> None:
    shop.run("tokens", "add", *words, status=status)
    assert shop.json("tokens", "list") == []


def test_the_audit_cannot_confuse_a_token_and_a_key(shop: Shell) -> None:
    shop.run("tokens", "add", "ci", "--role", "reader")
    said = shop.run("tokens", "add", "ci", "--role", "reader", status=Exit.INVALID)
    assert "There is already a token ci." in said.err
    with open_gatling() as gatling:
        keys.add(gatling.db, "ann", kind="ssh-ed25519", blob="AAAA", fingerprint="SHA256:x",
                 role="admin", apps=["*"])  # fmt: skip
        with pytest.raises(Exception, match="There is a token ci of the HTTP API"):
            keys.check_new(gatling.db, "ci", "SHA256:y")
    said = shop.run("tokens", "add", "ann", "--role", "reader", status=Exit.INVALID)
    assert "There is an SSH key ann." in said.err
