"""The warning about more connections than a database takes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gatling.deploy import connections
from gatling.errors import CommandFailed
from gatling.project import settings
from gatling.state import apps, config, databases
from gatling.state import pools as sizes
from gatling.state.database import Database, open_database
from gatling.state.databases import Attachment
from tests.platform.test_postgres_health import WELL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKERS = {"processes.mail.command": "start", "processes.mail.instances": "3"}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "state.db")
    apps.create(opened, "shop", lambda _: True)
    yield opened
    opened.close()


def warned(db: Database, most: int, **own: str) -> str:
    def facts(_: object) -> Any:
        if most == 0:
            raise CommandFailed("It does not run.")
        return replace(WELL, max_connections=most)

    pools = SimpleNamespace(url=lambda _, database: f"pool/{database}")
    home: Any = SimpleNamespace(db=db, databases=SimpleNamespace(facts=facts), pools=pools)
    return connections.too_many(home, "shop", settings.parse(own))


def test_it_depends_on_the_pool_the_workers_and_the_database(db: Database) -> None:
    config.replace(db, "shop", {"POOL_SIZE": "60"})
    assert warned(db, 100) == "", "it has no database here"
    databases.add(db, "shop", "shop", 17, "DATABASE_URL")
    assert warned(db, 100) == "", "the database is not complete"
    databases.mark(db, "shop", "ready")
    said = warned(db, 100)
    assert "POOL_SIZE 60: two instances open up to 120 connections" in said
    assert "the database shop takes 97" in said
    assert "`gatling config set shop POOL_SIZE=48`" in said
    assert "`gatling db pool shop --name shop`" in said
    assert warned(db, 200) == ""
    assert warned(db, 0) == "", "a database that does not run is no reason for this warning"
    for odd in ("", "many", "9" * 400, "٤٠"):  # the app's own fault: the usual size counts
        config.replace(db, "shop", {"POOL_SIZE": odd})
        assert warned(db, 100) == ""
    config.replace(db, "shop", {})
    assert warned(db, 50) == ""
    said = warned(db, 50, **WORKERS)
    assert "POOL_SIZE 10: two instances and 3 workers open up to 50 connections" in said
    assert "takes 47" in said
    assert "POOL_SIZE=9`" in said


def test_a_shared_database_counts(db: Database) -> None:
    apps.create(db, "blog", lambda _: True)
    databases.add(db, "blog", "blog", 17, "DATABASE_URL")
    databases.mark(db, "blog", "ready")
    databases.attach(db, Attachment("blog", "shop", "BLOG_URL", "read"))
    config.replace(db, "shop", {"POOL_SIZE": "99"})
    assert "the database blog takes 97" in warned(db, 100)


def test_a_pool_opens_its_own_connections_however_many_the_nodes_have(db: Database) -> None:
    databases.add(db, "shop", "shop", 17, "DATABASE_URL")
    databases.mark(db, "shop", "ready")
    pooled = {"POOL_SIZE": "60", "DATABASE_CONNECTION_POOL_URL": "pool/shop"}
    config.replace(db, "shop", pooled)
    assert warned(db, 100) == ""
    sizes.set_size(db, "shop", 120)
    said = warned(db, 100)
    assert "the pool of shop opens up to 120 connections, and the database shop takes 97" in said
    assert "`gatling db pool shop --name shop --size 97`" in said
