"""Databases that change places in the decision for a release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.state import apps, databases

if TYPE_CHECKING:
    from gatling.state.database import Database


def uses(db: Database) -> dict[str, str]:
    return {use.database: use.variable for use in databases.attachments(db, app="shop")}


def test_the_config_of_a_release_says_which_database_is_the_main_one(db: Database) -> None:
    apps.create(db, "shop", lambda port: True)  # noqa: ARG005
    for name, variable in (("shop", "DATABASE_URL"), ("shop-v1", "OLD_URL"), ("more", "MORE_URL")):
        databases.add(db, name, "shop", 15, variable)

    def wanted(value: str | None) -> object:
        return databases.exchange_for(
            db, "shop", "DATABASE_URL", lambda name: f"ecto://{name}", value
        )

    for value in (None, "", "ecto://shop", "ecto://shop?pool=1", "ecto://elsewhere"):
        assert wanted(value) is None
    pair = databases.exchange_for(
        db, "shop", "DATABASE_URL", lambda name: f"ecto://{name}", "ecto://shop-v1"
    )
    assert pair is not None
    app = apps.get(db, "shop")
    apps.make_live(db, "shop", release=None, slot=None, config=None, wanted=app.wanted,
                   exchange=pair)  # fmt: skip
    assert uses(db) == {"shop": "OLD_URL", "shop-v1": "DATABASE_URL", "more": "MORE_URL"}
    assert wanted("ecto://shop-v1") is None
    back = databases.exchange_for(
        db, "shop", "DATABASE_URL", lambda name: f"ecto://{name}", "ecto://shop"
    )
    assert back is not None
    databases.exchange(db, *back)
    assert uses(db) == {"shop": "DATABASE_URL", "shop-v1": "OLD_URL", "more": "MORE_URL"}
